"""Strict for every test: no silent rank promotion, no warnings (setup.cfg), and four CPU devices to spread over."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
import pytest
from command_line import Prefork
from markupsafe import Markup
from ml_collections import ConfigDict
from PIL import Image
from programs import (  # pytest looks here for what is not used
    compiled_as,
    few_programs,  # noqa: F401
    own_store,  # noqa: F401
    plain_kernels,  # noqa: F401
    pytest_collection_finish,  # noqa: F401
    pytest_collection_modifyitems,  # noqa: F401
    pytest_runtest_setup,  # noqa: F401
)

from cachefl_jax.config import default
from cachefl_jax.report import palette

jax.config.update("jax_numpy_rank_promotion", "raise")
DEVICES, TOO_FEW = 4, "Number of devices"  # what `jax.make_mesh` says where there are fewer
jax.config.update("jax_num_cpu_devices", DEVICES)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """A test that spreads over devices is skipped on an accelerator that is one: the CPU always has them."""
    try:
        return (yield)
    except ValueError as error:
        if not str(error).startswith(TOO_FEW) or jax.device_count() >= DEVICES:
            raise
        pytest.skip(f"wants up to {DEVICES} devices, of which this {jax.default_backend()} has {jax.device_count()}")


@pytest.fixture(scope="module", autouse=True)
def figures_not_drawn():
    """A run's report has figures that are made, and not drawn: that would be a third of a small run's time. The
    report's own tests draw them, and commands in processes of their own."""

    def svg(name: str, description: str, draw: Callable[[], object]) -> Markup:
        if name.endswith("-wide"):  # the narrow one is of the same figures
            draw()
        return Markup('<svg viewBox="0 0 1 1" role="img" aria-label="{}"></svg>').format(description)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(palette, "svg", svg)
        yield


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """`command_line.run`, without waiting for imports at every call."""
    prefork = Prefork(tmp_path_factory.mktemp("printed"), compiled_as(quick=False))
    yield prefork
    prefork.close()


@pytest.fixture(scope="session")
def quick_start(tmp_path_factory):
    """`start`, and what it starts compiles as quick tests do."""
    prefork = Prefork(tmp_path_factory.mktemp("printed"), compiled_as(quick=True))
    yield prefork
    prefork.close()


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


# Pictures that even the pocket CLIP tells apart.
SIDE = 24
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
SHAPES = {
    "red square": ((220, 40, 40), (abs(ROWS - 12) < 7) & (abs(COLUMNS - 12) < 7)),
    "green disc": ((40, 200, 60), (ROWS - 12) ** 2 + (COLUMNS - 12) ** 2 < 50),
    "blue bar": ((60, 60, 230), abs(COLUMNS - 12) < 3),
}


@pytest.fixture(scope="session")
def make_pictures():
    """(root, {folder of a class: count}, seed=0, sites=()) -> root, with so many noisy PNGs of 24 x 24 in each folder,
    turn by turn in folders of the sites. A folder may spell its class in its own way."""

    def make(root: pathlib.Path, counts: Mapping[str, int], seed: int = 0, sites: tuple[str, ...] = ()) -> pathlib.Path:
        rng = np.random.default_rng(seed)
        for folder, count in counts.items():
            colour, shape = SHAPES[pathlib.PurePath(folder).name.lower().replace("_", " ")]
            for number in range(count):
                place = root / folder / (sites[number % len(sites)] if sites else "")
                place.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 90, (SIDE, SIDE, 3))
                pixels[shape] += np.array(colour) // 2
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:03d}.png")
        return root

    return make


@pytest.fixture(scope="session")
def config_for_images():
    """(root, **changes) -> a config of two rounds at three clients, keys from images held out of training."""

    def make(root: pathlib.Path, **changes) -> ConfigDict:
        config = default()
        config.data.name, config.data.path = "image_folder", str(root)
        config.synthesis.source, config.synthesis.images_per_class = "held_out", 3
        config.partition.clients, config.partition.concentration = 3, 1.0
        config.cache.keys_per_class, config.rounds, config.methods = 2, 2, ("cachefl",)
        config.local.batch_size, config.engine.devices, config.engine.strategy = 8, 1, "scan"
        config.update_from_flattened_dict(changes)
        return config

    return make
