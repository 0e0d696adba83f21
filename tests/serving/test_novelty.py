from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy import stats

from cxr.serving.novelty import N_COMPONENTS, ImageNovelty, brightness_map, fit_novelty, novelty_limit


def draw_features(seed: int, n_images: int, n_features: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(n_features, n_features))
    return (generator.normal(size=(n_images, n_features)) @ mixing + 3).astype(np.float32)


@pytest.mark.parametrize("n_features", [3, 30])
def test_novelty_is_the_mahalanobis_distance_where_components_span_everything(n_features: int) -> None:
    known = draw_features(0, 400, n_features)
    images = np.concatenate([draw_features(1, 20, n_features), draw_features(2, 20, n_features) * 5])
    inverse = np.linalg.inv(np.cov(known.T.astype(float), bias=True))
    expected = [np.sqrt(d @ inverse @ d) for d in images.astype(float) - known.astype(float).mean(axis=0)]
    np.testing.assert_allclose(fit_novelty(known).distance(images), expected, rtol=0.01)


def test_the_residual_counts_in_units_of_its_own_spread() -> None:
    known, images = draw_features(0, 300, 60), draw_features(1, 10, 60) * 2
    novelty = fit_novelty(known)
    assert novelty.components.shape == (N_COMPONENTS, 60)
    mean = known.astype(float).mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(known.T.astype(float), bias=True))
    leading = vectors[:, np.argsort(values)[::-1][:N_COMPONENTS]].T

    def parts(image: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        along = leading @ (image - mean)
        return along, float(np.linalg.norm(image - mean - leading.T @ along))

    of_known = [parts(image) for image in known.astype(float)]
    spread = np.std([along for along, _ in of_known], axis=0)
    residual_spread = np.sqrt(np.mean([residual**2 for _, residual in of_known]))
    expected = [
        np.sqrt(((along / spread) ** 2).sum() + (residual / residual_spread) ** 2)
        for along, residual in map(parts, images.astype(float))
    ]
    np.testing.assert_allclose(novelty.distance(images), expected, rtol=1e-3)


def test_an_image_is_novel_along_a_component_and_beside_all_of_them() -> None:
    known = np.zeros((200, 50), np.float32)
    known[:, :40] = np.random.default_rng(0).normal(size=(200, 40))
    novelty = fit_novelty(known)
    usual = novelty.distance(known).max()
    along, beside = np.zeros((2, 1, 50), np.float32)
    along[0, 3], beside[0, 45] = 100, 100
    assert novelty.distance(along)[0] > 5 * usual
    assert novelty.distance(beside)[0] > 5 * usual


def test_novelty_does_not_change_when_all_features_are_shifted_and_scaled() -> None:
    known, images = draw_features(0, 300, 60), draw_features(1, 10, 60)
    moved = fit_novelty(8 * known + 5).distance(8 * images + 5)
    np.testing.assert_allclose(moved, fit_novelty(known).distance(images), rtol=1e-3)


@pytest.mark.parametrize("n_images", [1, 2, 5, 40])
def test_novelty_fitted_on_few_or_identical_images_is_a_finite_number(n_images: int) -> None:
    known = draw_features(0, n_images, 60)
    for fitted_on in (known, np.repeat(known[:1], n_images, axis=0)):
        distance = fit_novelty(fitted_on).distance(np.concatenate([fitted_on, draw_features(1, 3, 60)]))
        assert distance.shape == (n_images + 3,)
        assert np.isfinite(distance).all()
        assert distance[n_images:].min() > distance[:n_images].max()


def test_no_images_have_no_novelty() -> None:
    assert fit_novelty(draw_features(0, 50, 10)).distance(np.empty((0, 10), np.float32)).shape == (0,)


def test_a_brightness_map_says_where_an_image_is_bright_whatever_its_contrast() -> None:
    generator = np.random.default_rng(0)
    square = np.kron(generator.integers(50, 100, (16, 16)), np.ones((4, 4))).astype(np.uint8)
    (plain,) = brightness_map(square[None])
    np.testing.assert_allclose(plain, stats.zscore(square[::4, ::4].ravel().astype(float)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(brightness_map(2 * square[None] + 30)[0], plain, rtol=1e-4, atol=1e-5)


def test_a_blank_image_has_an_empty_brightness_map() -> None:
    assert brightness_map(np.full((2, 64, 64), 7, np.uint8)).tolist() == [[0] * 256] * 2
    assert brightness_map(np.empty((0, 64, 64), np.uint8)).shape == (0, 256)


def test_a_saved_measure_comes_back_bit_for_bit_under_the_names_of_the_package_format(tmp_path: Path) -> None:
    squares = np.random.default_rng(0).integers(0, 256, (40, 32, 32), dtype=np.uint8)
    features = draw_features(0, 40, 12)
    measure = ImageNovelty(fit_novelty(features), fit_novelty(brightness_map(squares)))
    measure.save(tmp_path / "novelty.safetensors")
    names = {f"{part}.{name}" for part in ("network", "layout") for name in ("mean", "components", "scale")}
    assert load_file(tmp_path / "novelty.safetensors").keys() == names
    loaded = ImageNovelty.load(tmp_path / "novelty.safetensors")
    np.testing.assert_array_equal(loaded.distance(features, squares), measure.distance(features, squares))


def test_an_image_is_novel_by_its_features_or_by_where_it_is_bright() -> None:
    generator = np.random.default_rng(0)
    squares = generator.integers(90, 110, (60, 32, 32)).astype(np.uint8)
    squares[:, :16] += 60
    features = draw_features(0, 60, 12)
    measure = ImageNovelty(fit_novelty(features), fit_novelty(brightness_map(squares)))
    usual = measure.distance(features, squares)
    network = measure.network.distance(features)
    brightness = measure.brightness.distance(brightness_map(squares))
    np.testing.assert_allclose(usual, np.sqrt(network**2 + brightness**2))
    assert measure.distance(features, 255 - squares).min() > usual.max()
    assert measure.distance(50 * features, squares).min() > usual.max()


@pytest.mark.parametrize("n", [299, 300, 500, 1046, 5000])
def test_the_limit_is_the_lowest_distance_beyond_which_at_most_one_percent_lie_with_a_confidence_of_95_percent(
    n: int,
) -> None:
    distance = np.random.default_rng(n).lognormal(size=n)
    rank = np.sort(distance).tolist().index(novelty_limit(distance)) + 1

    def confidence(rank: int) -> float:
        """That of the share beyond the distance of this rank, which has a beta distribution, being 1% or less."""
        return float(stats.beta.cdf(0.01, n - rank + 1, rank))

    assert confidence(rank) >= 0.95 > confidence(rank - 1)


@pytest.mark.parametrize(("n", "factor"), [(10, 3.981), (20, 3.295), (30, 3.064)])
def test_the_limit_of_few_distances_is_that_of_a_normal_distribution_of_their_logarithms(n: int, factor: float) -> None:
    """The factors are those of the published tables, for 99% of the population and a confidence of 95%."""
    logs = np.random.default_rng(n).uniform(1, 3, n)
    assert np.log(novelty_limit(np.exp(logs))) == pytest.approx(logs.mean() + factor * logs.std(ddof=1), abs=2e-3)


def test_the_limit_of_few_distances_is_no_lower_than_the_largest() -> None:
    assert novelty_limit(np.array([1.0] * 20 + [1000.0])) == 1000


def test_equal_distances_are_their_own_limit_and_one_distance_sets_none() -> None:
    assert novelty_limit(np.full(20, 7.0)) == pytest.approx(7)
    assert novelty_limit(np.zeros(2)) == pytest.approx(0)
    assert novelty_limit(np.array([7.0])) is None
    assert novelty_limit(np.array([])) is None
