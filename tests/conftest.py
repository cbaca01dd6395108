"""Strict for every test: no silent rank promotion, no warnings (setup.cfg), and four CPU devices to spread over."""

import functools
import pathlib

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory):
    """Synthetic sets are drawn for this session alone, never found in the user's store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHEFL_HOME", str(tmp_path_factory.mktemp("store")))
        yield


BANKS = pathlib.Path(__file__).parents[2] / "shared" / "data" / "feature_banks"


@pytest.fixture
def real_bank():
    """The path of a real feature bank by name; skips where the development data is absent."""

    def find(name: str) -> pathlib.Path:
        path = BANKS / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"real CLIP features are not part of the product: no {path.name} beside the checkout")
        return path

    return find


@pytest.fixture
def make_bank(tmp_path, make_bank_in):
    """Writes a small feature bank that passes every check; arguments replace or, as None, remove arrays."""
    return functools.partial(make_bank_in, tmp_path)


@pytest.fixture(scope="session")
def make_bank_in():
    """`make_bank` for a folder of one's own."""

    def make(folder: pathlib.Path, classes: int = 4, width: int = 8, **changes) -> pathlib.Path:
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(classes, width))
        arrays = {"text_features": centres + 0.3 * rng.normal(size=centres.shape)}
        for name, per_class in (("train", 15), ("val", 5), ("test", 10), ("synthetic", 3)):
            labels = np.repeat(np.arange(classes), per_class)
            noise = rng.normal(size=(len(labels), width))
            arrays |= {f"{name}_features": (centres[labels] + 0.7 * noise).astype(np.float32), f"{name}_labels": labels}
        arrays |= changes
        path = folder / "bank.npz"
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    return make
