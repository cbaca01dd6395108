"""A run that a user's code is part of goes on, and counts as done, only with that code as it was."""

import os
import pathlib
import shutil
import sys

import pytest

from cachefl_jax.config import changed, default, resolve
from cachefl_jax.errors import UsageError
from cachefl_jax.report import write_report
from cachefl_jax.simulation.made_of import named_parts
from cachefl_jax.simulation.train import train_and_evaluate

PROBE = pathlib.Path(__file__).parents[1] / "methods" / "linear_probe.py"


@pytest.fixture
def file(tmp_path):
    """A file of a user's with a method called probe."""
    return pathlib.Path(shutil.copy(PROBE, tmp_path / "mine.py"))


def change(file: pathlib.Path) -> None:
    file.write_text(file.read_text() + "# changed\n")


def test_other_code_is_refused_before_more_rounds_and_after_the_last(file, make_bank, tmp_path):
    fields = {"data.name": "feature_bank", "data.path": str(make_bank()), "method": f"{file}:probe", "rounds": 1,
              "compare": (f"{file}:probe",), "partition.clients": 3, "cache.keys_per_class": 2,
              "engine.devices": 1}  # fmt: skip
    config, folder = changed(default(), fields), tmp_path / "run"
    summary = train_and_evaluate(config, folder)
    os.utime(file)  # other times, the same code
    assert train_and_evaluate(config, folder) == summary
    change(file)
    for rounds in (1, 2):
        with pytest.raises(UsageError, match=rf"with a run by other code \(code of {file}:probe \w+, now \w+\)"):
            train_and_evaluate(changed(config, {"rounds": rounds}), folder)
    shutil.copy(PROBE, file)
    assert train_and_evaluate(changed(config, {"rounds": 2}), folder)["methods"]["probe"]["rounds"] == 2
    file.unlink()
    (loaded,) = (name for name in sys.modules if name.endswith(str(file)))
    del sys.modules[loaded]
    assert "linear probe" in write_report([folder], None).read_text()
    with pytest.raises(UsageError, match=rf"method: got {file}:probe \(no such file\)"):
        train_and_evaluate(config, folder)


def test_a_users_method_is_added_to_a_run_that_did_not_name_it(file, make_bank, tmp_path):
    fields = {"data.name": "feature_bank", "data.path": str(make_bank()), "rounds": 1, "compare": ("cachefl",),
              "partition.clients": 3, "cache.keys_per_class": 2, "engine.devices": 1}  # fmt: skip
    config, folder = changed(default(), fields), tmp_path / "run"
    before = train_and_evaluate(config, folder)["methods"]
    more = changed(config, {"compare": ("cachefl", f"{file}:probe")})
    after = train_and_evaluate(more, folder)["methods"]
    assert list(after) == ["cachefl", "probe"]
    assert after["cachefl"] == before["cachefl"]
    change(file)
    with pytest.raises(UsageError, match=rf"with a run by other code \(code of {file}:probe \w+, now \w+\)"):
        train_and_evaluate(more, folder)


def test_code_of_modules_counts_and_that_of_ours_does_not(file, monkeypatch):
    monkeypatch.syspath_prepend(str(file.parent))
    config = resolve(changed(default(), {"method": "mine:probe"}))
    try:
        before = named_parts(config)
        assert list(before) == ["code of mine:probe"]
        change(file)
        assert named_parts(config) != before
        assert named_parts(resolve(default())) == {}
    finally:
        del sys.modules["mine"]
