"""Images that the pipeline refuses are drawn again from further seeds, and counted."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
from synthesis.drawn_sets import LARGE, noise, whole_of

from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import generator, obtain
from cachefl_jax.synthesis.picture_files import facts_in

SEEDS = sum(LARGE.seeds, ())


@pytest.fixture
def objecting(monkeypatch):
    """(refuses) -> nothing; `refuses` says of a seed whether the pipeline's safety checker objects to its image."""

    def install(refuses) -> None:
        @contextlib.contextmanager
        def fake(pipeline, prompts, how):
            def draw(some, seeds):
                blocked = [refuses(seed) for seed in seeds]
                raw = np.stack(
                    [0 * noise(seed) if bad else noise(seed) for seed, bad in zip(seeds, blocked, strict=True)]
                )
                return generator.read_output(SimpleNamespace(images=raw / 255, nsfw_content_detected=blocked))

            yield draw

        monkeypatch.setattr(generator, "drawing", fake)

    return install


def test_what_the_pipeline_refuses_is_drawn_again_from_the_next_seed_and_counted(objecting, tmp_path):
    objecting(lambda seed: seed in (SEEDS[3], SEEDS[20], SEEDS[20] + 1))
    made = obtain(LARGE, tmp_path / "first")
    assert made.manifest["redrawn"] == 2
    assert made.manifest["redrawn_seeds"] == {"3": SEEDS[3] + 1, "20": SEEDS[20] + 2}
    for row, seed in enumerate(SEEDS):
        seed = made.manifest["redrawn_seeds"].get(str(row), seed)
        np.testing.assert_array_equal(np.asarray(made.images[row]), noise(seed))
        assert facts_in(made.images.name(row))["seed"] == seed
    obtain(LARGE, tmp_path / "second")
    assert whole_of(tmp_path / "first") == whole_of(tmp_path / "second")


def test_a_class_that_is_always_refused_is_named(objecting, tmp_path):
    sevens = {seed + more for seed in LARGE.seeds[1] for more in range(20)}
    objecting(sevens.__contains__)
    with pytest.raises(
        UsageError, match='synthesis.prompts: got no image, from 9 seeds, of "the digit seven."; allowed'
    ):
        obtain(LARGE, tmp_path)
