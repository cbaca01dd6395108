"""Measures of a synthetic set: equal to the named packages and to textbook formulas, and right where one knows."""

import json

import numpy as np
import prdc as prdc_package
import pytest
import scipy.linalg
from vendi_score import vendi as vendi_package

from cachefl_jax.data.bank import Split
from cachefl_jax.synthesis import formulas
from cachefl_jax.synthesis.class_means import left_out, nearer_another
from cachefl_jax.synthesis.formulas import cmmd, frechet, nearest_real, prdc, vendi
from cachefl_jax.synthesis.measures import COLLAPSED, NEAREST, measure

NAMES = ("ant", "bee", "cow")


def draws(count: int, seed: int, width: int = 6, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(count, width)) * scale + shift).astype(np.float32)


@pytest.fixture(params=[formulas.BLOCK_ENTRIES, 100], ids=["one block", "many blocks"])
def _block(request, monkeypatch):
    monkeypatch.setattr(formulas, "BLOCK_ENTRIES", request.param)


@pytest.mark.usefixtures("_block")
def test_frechet_is_the_textbook_formula():
    one, other = draws(90, 0), draws(70, 1, shift=0.3, scale=1.4) @ draws(6, 2)
    means = [rows.astype(float).mean(axis=0) for rows in (one, other)]
    first, second = (np.cov(rows.astype(float), rowvar=False) for rows in (one, other))
    root = scipy.linalg.sqrtm(first @ second)
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(first + second - 2 * root.real)
    assert frechet(one, other) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_singular_covariances_is_exact():
    """Fewer rows than features, all on one line: the distance of two normal distributions of one dimension."""
    along = np.eye(8)[3]
    one, other = (np.array(places)[:, None] * along for places in ([1.0, 2.0, 3.0], [2.0, 6.0, 10.0, 14.0]))
    spreads = np.std([1, 2, 3], ddof=1), np.std([2, 6, 10, 14], ddof=1)
    assert frechet(one, other) == pytest.approx((8 - 2) ** 2 + (spreads[1] - spreads[0]) ** 2, rel=1e-9)


def test_frechet_of_a_shifted_copy_is_the_shift_alone():
    rows = draws(50, 0).astype(float)
    assert frechet(rows, rows) == pytest.approx(0, abs=1e-9)
    assert frechet(rows, rows + [3, 0, 0, 0, 4, 0]) == pytest.approx(25, rel=1e-9)


@pytest.mark.usefixtures("_block")
def test_cmmd_is_the_plain_double_loop():
    one, other = draws(12, 0), draws(17, 1, shift=0.5)
    unit = [[row / np.linalg.norm(row) for row in rows.astype(float)] for rows in (one, other)]

    def mean_kernel(first, second) -> float:
        pairs = [(a, b) for i, a in enumerate(first) for j, b in enumerate(second) if first is not second or i != j]
        return sum(np.exp(-((a - b) ** 2).sum() / 200) for a, b in pairs) / len(pairs)

    expected = mean_kernel(unit[0], unit[0]) + mean_kernel(unit[1], unit[1]) - 2 * mean_kernel(*unit)
    assert cmmd(one, other) == pytest.approx(1000 * expected, rel=1e-6)


def test_cmmd_is_unbiased_and_close_to_the_distance_of_the_means():
    same = [cmmd(draws(10, 2 * seed), draws(30, 2 * seed + 1)) for seed in range(300)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(len(same))
    one, other = draws(4000, 0), draws(4000, 1, shift=1.0)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (one, other)]
    assert cmmd(one, other) == pytest.approx(10 * ((unit[0].mean(0) - unit[1].mean(0)) ** 2).sum(), rel=0.02)


@pytest.mark.usefixtures("_block")
@pytest.mark.parametrize("nearest", [1, 5])
def test_neighbourhoods_are_those_of_the_prdc_package(nearest):
    real, fake = draws(80, 0), draws(60, 1, shift=0.4, scale=0.8)
    expected = prdc_package.compute_prdc(real.astype(float), fake.astype(float), nearest)
    assert prdc(real, fake, nearest)._asdict() == pytest.approx(expected, abs=1e-6)


def test_neighbourhoods_of_known_sets():
    real = draws(100, 0)
    assert prdc(real, real) == pytest.approx((1, 1, 1, 1))
    assert prdc(real, draws(100, 1, shift=50.0)) == (0, 0, 0, 0)
    collapsed = np.repeat(real[:1], 100, axis=0)  # one real image again and again: precise, and covers next to nothing
    found = prdc(real, collapsed)
    assert (found.precision, found.recall) == (1, 0)
    assert found.coverage < 0.2


@pytest.mark.usefixtures("_block")
@pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning")  # the package's own
@pytest.mark.parametrize("count", [5, 40])
def test_vendi_is_that_of_the_package(count):
    """Fewer rows than features, and more."""
    rows = draws(count, 0)
    packages = vendi_package.score_X(rows.astype(float)), vendi_package.score_dual(rows.astype(float))
    assert packages == pytest.approx([vendi(rows)] * 2, rel=1e-6)


def test_vendi_counts_what_is_different():
    axes = np.eye(7)
    assert vendi(axes) == pytest.approx(7)
    assert vendi(np.repeat(axes[:3], 4, axis=0)) == pytest.approx(3)
    assert vendi(np.repeat(axes[:1], 9, axis=0)) == pytest.approx(1)


@pytest.mark.usefixtures("_block")
def test_copies_of_real_rows_are_found():
    real, fake = draws(200, 0), draws(40, 1)
    fake[7], fake[30] = real[11], real[150] + np.float32(1e-4)
    found = nearest_real(fake, real)
    distances = np.linalg.norm(fake[:, None].astype(float) - real[None].astype(float), axis=2)
    np.testing.assert_array_equal(found.rows, distances.argmin(axis=1))
    np.testing.assert_allclose(found.distances, distances.min(axis=1), atol=1e-6)
    assert found.rows[[7, 30]].tolist() == [11, 150]
    assert np.flatnonzero(found.distances <= found.near).tolist() == [7, 30]


def test_identical_rows_are_at_no_distance():
    """Whatever their size: a reach of rounding would count neighbours that are none."""
    rows = np.repeat(draws(3, 0, width=512, shift=100.0), 8, axis=0)
    assert formulas.nearest_squares(rows, 5).tolist() == [0] * 24
    assert prdc(rows, rows) == (0, 0, 0, 0)


def of_classes(per_class: int, seed: int, spread: float = 0.25) -> Split:
    """Rows of three classes around their own axes, L2-normalised, as features are."""
    labels = np.repeat(np.arange(3), per_class)
    rows = np.eye(8)[labels] + spread * np.random.default_rng(seed).normal(size=(len(labels), 8))
    return Split((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels)


def kinds(measured: dict) -> set[tuple[str | None, str]]:
    return {(flag["class"], flag["kind"]) for flag in measured["flags"]}


def test_a_set_as_good_as_real_images_raises_no_flag():
    found = measure(of_classes(60, 0), of_classes(50, 1), NAMES)
    assert found == json.loads(json.dumps(found, allow_nan=False))
    assert kinds(found) == set()
    assert (found["images"], found["real_images"], found["features"], found["nearest"]) == (180, 150, 8, 5)
    assert found["all"]["coverage"] > 0.8
    assert found["all"]["frechet"] < 3 * found["real_halves"]["frechet"]
    assert [found["classes"][name]["nearest_real_class"] for name in NAMES] == list(NAMES)


def test_a_class_of_one_image_is_said_to_be_collapsed():
    fake, real = of_classes(60, 0), of_classes(50, 1)
    fake.features[fake.labels == 1] = fake.features[60]
    found = measure(fake, real, NAMES)
    assert {("bee", "collapse")} == {flag for flag in kinds(found) if flag[1] == "collapse"}
    assert found["classes"]["bee"]["diversity"] == pytest.approx(0, abs=1e-6)
    assert found["classes"]["ant"]["diversity"] > COLLAPSED


def test_images_of_another_class_are_seen_by_class_and_not_in_all():
    fake, real = of_classes(60, 0), of_classes(50, 1)
    swapped = fake._replace(labels=(fake.labels + 1) % 3)
    good, bad = measure(fake, real, NAMES), measure(swapped, real, NAMES)
    assert bad["all"] == pytest.approx(good["all"])
    assert bad["mean_of_classes"]["frechet"] > 10 * good["mean_of_classes"]["frechet"]
    assert {(name, kind) for name in NAMES for kind in ("another class", "confused")} <= kinds(bad)
    assert bad["classes"]["bee"]["nearest_real_class"] == "ant"
    assert bad["classes"]["bee"]["nearer_another"] > 0.9


def test_a_real_row_is_left_out_of_its_own_mean():
    """Two rows at right angles: each is nearer to the other class than to its class's mean without itself."""
    real = Split(np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.6, 0.53]]), np.array([0, 0, 1]))
    found = nearer_another(real, real, 2)
    shares = {"as_far_by_chance": 1, "nearer_another": 0, "nearer_another_real": 1}
    assert found[0] == {"nearest_real_class": 0, **shares}
    assert (found[1]["nearer_another_real"], found[1]["as_far_by_chance"]) == (None, None)


def test_means_of_samples_are_compared_with_the_rest_of_their_class():
    rng = np.random.default_rng(0)
    rows, others = (formulas.unit(rng.normal(size=shape) + 0.3) for shape in ((9, 5), (2, 5)))
    chosen = np.array([rng.choice(9, 3, replace=False) for _ in range(50)])
    expected = []
    for each in chosen:
        mean, rest = (part.mean(axis=0) for part in (rows[each], np.delete(rows, each, axis=0)))
        cosines = [mean @ vector / np.linalg.norm(vector) for vector in (rest, *others)]
        own, *another = np.array(cosines) / np.linalg.norm(mean)
        expected.append(max(another) - own)
    assert min(expected) < 0 < max(expected)
    np.testing.assert_allclose(left_out(rows, chosen, others), expected, atol=1e-12)


def test_classes_that_the_encoder_does_not_tell_apart_are_not_flagged():
    """Real images of one distribution under three names: a mean that is nearest to another class says nothing."""
    labels = np.repeat(np.arange(3), 20)
    fake, real = (Split(formulas.unit(draws(60, seed, shift=0.5)), labels) for seed in (0, 1))
    found = measure(fake, real, NAMES)
    assert {figures["nearest_real_class"] for figures in found["classes"].values()} != set(NAMES)
    assert not {kind for _, kind in kinds(found)} & {"another class", "confused"}


def test_copies_are_flagged_with_their_pairs():
    fake, real = of_classes(60, 0), of_classes(50, 1)
    fake.features[:20] = real.features[100:120]
    found = measure(fake, real, NAMES)
    assert (None, "memorised") in kinds(found)
    assert [pair[:2] for pair in found["memorised"]["pairs"][:20]] == [[row, 100 + row] for row in range(20)]


def test_classes_too_small_to_measure_say_so():
    fake, real = of_classes(60, 0), of_classes(50, 1)
    rows = np.flatnonzero((fake.labels != 0) | (np.arange(180) < NEAREST))
    known = np.flatnonzero(real.labels != 2)
    found = measure(Split(*(each[rows] for each in fake)), Split(*(each[known] for each in real)), NAMES)
    assert {("ant", "too few"), ("cow", "too few")} <= kinds(found)
    assert found["classes"]["ant"]["precision"] is None
    assert found["classes"]["ant"]["frechet"] > 0
    assert [found["classes"]["cow"][name] for name in ("frechet", "nearer_another", "nearer_another_real")] == [
        None
    ] * 3
    assert found["mean_of_classes"]["precision"] == found["classes"]["bee"]["precision"]


def test_fewer_images_than_features_are_said_to_bias_the_distance():
    assert (None, "biased") in kinds(measure(of_classes(2, 0), of_classes(50, 1), NAMES))


def test_without_validation_images_diversity_alone_is_told():
    found = measure(of_classes(10, 0), None, NAMES)
    assert kinds(found) == {(None, "no real images")}
    assert found["classes"]["ant"] == {"images": 10, "vendi": vendi(of_classes(10, 0).features[:10]), "flags": []}
    assert found["mean_of_classes"]["vendi"] > 1
