"""JAX's own variables change no byte of a run, or are one line."""

import jax
import pytest
from command_line import assert_refused
from command_line import run as command

from cachefl_jax.errors import UsageError
from cachefl_jax.simulation import environment


def test_the_settings_that_are_needed_are_those_of_jax_itself():
    """In this process nobody has changed them, so nothing is said."""
    for name, value in environment.NEEDED.items():
        assert getattr(jax.config, name) in (value, None), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_enable_x64", True),
        ("jax_disable_jit", True),
        ("jax_default_matmul_precision", "bfloat16"),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_default_prng_impl", "rbg"),
        ("jax_random_seed_offset", 7),
        ("jax_transfer_guard", "disallow"),
    ],
)
def test_a_setting_that_would_change_a_run_is_put_back_and_named(name, value, monkeypatch, capsys):
    before = getattr(jax.config, name)
    monkeypatch.setenv(name.upper(), str(value))
    jax.config.update(name, value)
    try:
        environment.settle()
        assert getattr(jax.config, name) == environment.NEEDED[name]
        assert capsys.readouterr().err.endswith(f"the same everywhere: {name.upper()}={value}\n")
        environment.settle()
        assert not capsys.readouterr().err
    finally:
        jax.config.update(name, before)


@pytest.mark.parametrize("error", [RuntimeError("Unable to initialize backend 'cuda': none"), AssertionError()])
def test_a_platform_that_is_not_there_is_told_as_the_variable_that_names_it(error, monkeypatch):
    def device_count():
        raise error

    monkeypatch.setattr(jax, "device_count", device_count)
    with pytest.raises(RuntimeError if isinstance(error, RuntimeError) else AssertionError):
        environment.device_count()
    monkeypatch.setattr(environment, "wanted_platforms", lambda: "cuda")
    with pytest.raises(UsageError, match=r"JAX_PLATFORMS: got cuda.*mend: unset JAX_PLATFORMS"):
        environment.device_count()


def test_a_value_that_jax_cannot_read_is_one_line(make_bank, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_X64", "maybe")
    words = ["--config=experiments/configs/feature_bank.py", f"--config.data.path={make_bank()}"]
    assert_refused(command(*words, f"--workdir={tmp_path / 'run'}"), "JAX_ENABLE_X64=maybe")
    assert not (tmp_path / "run").exists()
