import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax
from scipy.stats import norm
from sklearn.metrics import brier_score_loss

from cxr.classes import Classes
from cxr.metrics.calibration import (
    Calibration,
    CalibrationOfFindings,
    calibrate_folds,
    calibration_errors,
    fit_calibration,
    fit_thresholds,
    fit_without_each_fold,
    predict_labels,
    prior_shift,
    shift_thresholds,
)

NOBODY = 2.0
"""A threshold at which no image is predicted positive."""


def draw_logits(
    seed: int, n_images: int, temperature: float, bias: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw images whose classes follow softmax(logits / temperature + bias), each with a constant of its own."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=2 * temperature, size=(n_images, len(bias)))
    chance = softmax(logits / temperature + np.array(bias), axis=1)
    target = (generator.random((n_images, 1)) > chance.cumsum(axis=1)).sum(axis=1).clip(max=len(bias) - 1)
    return logits + generator.normal(size=(n_images, 1)), target


def cross_fit(logits: NDArray[np.float64], target: NDArray[np.int64], fold: NDArray[np.int64]) -> NDArray[np.float64]:
    return calibrate_folds(fit_without_each_fold(logits, target, fold), logits, fold)


def mean_log_loss(calibration: Calibration, logits: NDArray[np.float64], target: NDArray[np.int64]) -> float:
    scaled = logits / calibration.temperature + np.array(calibration.bias)
    return -float(log_softmax(scaled, axis=1)[np.arange(len(target)), target].mean())


@pytest.mark.parametrize(
    ("temperature", "bias"), [(1.0, (0.0, 0.0)), (2.5, (1.0, -1.0)), (0.4, (-0.3, 0.3)), (3.0, (1.5, -0.5, -1.0))]
)
def test_temperature_and_bias_are_recovered_from_images_drawn_with_them(
    temperature: float, bias: tuple[float, ...]
) -> None:
    fitted = fit_calibration(*draw_logits(0, 20_000, temperature, bias))
    assert fitted.temperature == pytest.approx(temperature, rel=0.05)
    assert fitted.bias == pytest.approx(bias, abs=0.08)
    assert sum(fitted.bias) == pytest.approx(0, abs=1e-9)


def test_no_grid_of_temperatures_and_biases_holds_a_likelier_pair() -> None:
    logits, target = draw_logits(1, 500, 2.0, (0.6, -0.6))
    least = min(
        mean_log_loss(Calibration(temperature, (half, -half)), logits, target)
        for temperature in np.geomspace(0.5, 8, 60)
        for half in np.linspace(-2, 2, 81)
    )
    assert mean_log_loss(fit_calibration(logits, target), logits, target) <= least + 1e-4


def test_probabilities_are_those_of_the_formula_whatever_the_shape() -> None:
    calibration = Calibration(2.0, (0.5, -0.5))
    logits = np.random.default_rng(0).normal(size=(3, 4, 2))
    by_hand = 1 / (1 + np.exp(-((logits[..., 1] - logits[..., 0]) / 2 - 1)))
    np.testing.assert_allclose(calibration.probability(logits)[..., 1], by_hand)
    np.testing.assert_allclose(calibration.probability(logits).sum(axis=-1), 1)
    unchanged = Calibration(1.0, (0.0, 0.0))
    np.testing.assert_allclose(unchanged.probability(logits), softmax(logits, axis=-1))


def test_images_that_took_no_part_have_a_lower_log_loss_and_ece_than_uncalibrated() -> None:
    logits, target = draw_logits(2, 2000, 3.0, (1.0, -1.0))
    calibrated = cross_fit(logits, target, np.arange(2000) % 5)
    before, after = (calibration_errors(p, target) for p in (softmax(logits, axis=1), calibrated))
    assert all(after[name] < before[name] for name in ("log_loss", "brier", "ece"))
    assert after["ece"] < 0.05


def test_the_order_of_images_and_a_constant_on_an_images_logits_change_nothing() -> None:
    logits, target = draw_logits(3, 800, 2.0, (0.5, 0.0, -0.5))
    generator = np.random.default_rng(4)
    order = generator.permutation(800)
    fitted = fit_calibration(logits, target)
    for other in (
        fit_calibration(logits[order], target[order]),
        fit_calibration(logits + generator.normal(scale=50, size=(800, 1)), target),
    ):
        assert other.temperature == pytest.approx(fitted.temperature, rel=1e-4)
        assert other.bias == pytest.approx(fitted.bias, abs=1e-4)


def test_scaling_the_logits_scales_the_temperature() -> None:
    logits, target = draw_logits(5, 2000, 1.5, (0.4, -0.4))
    fitted, scaled = fit_calibration(logits, target), fit_calibration(4 * logits, target)
    assert scaled.temperature == pytest.approx(4 * fitted.temperature, rel=1e-2)
    assert scaled.bias == pytest.approx(fitted.bias, abs=1e-2)


@pytest.mark.parametrize("scale", [1e-3, 1, 30, 1e6])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_classes_told_apart_without_an_error_or_always_mistaken_give_finite_parameters(
    scale: float, n_classes: int, sign: int
) -> None:
    target = np.arange(60) % n_classes
    logits = sign * scale * np.eye(n_classes)[target]
    fitted = fit_calibration(logits, target)
    assert fitted.temperature > 0
    assert np.isfinite([fitted.temperature, *fitted.bias]).all()
    probability = fitted.probability(logits)
    assert np.isfinite(probability).all()
    assert mean_log_loss(fitted, logits, target) <= mean_log_loss(Calibration(1, (0,) * n_classes), logits, target)


@pytest.mark.parametrize("target", [[0], [1], [0] * 30, [0, 1] * 15])
def test_one_image_one_class_or_a_class_without_images_give_finite_parameters(target: list[int]) -> None:
    logits = np.random.default_rng(6).normal(size=(len(target), 3))
    fitted = fit_calibration(logits, np.array(target))
    assert fitted.temperature > 0
    assert np.isfinite([fitted.temperature, *fitted.bias]).all()


def test_each_fold_is_calibrated_by_the_others() -> None:
    logits, target = draw_logits(7, 300, 2.0, (0.8, -0.8))
    fold = np.random.default_rng(8).choice([1, 4, 9], 300)
    expected = np.full_like(logits, np.nan)
    for held_out in (1, 4, 9):
        others = [image for image in range(300) if fold[image] != held_out]
        calibration = fit_calibration(logits[others], target[others])
        for image in range(300):
            if fold[image] == held_out:
                expected[image] = calibration.probability(logits[image])
    np.testing.assert_allclose(cross_fit(logits, target, fold), expected, rtol=1e-9)


def test_an_images_own_fold_does_not_touch_its_probability() -> None:
    logits, target = draw_logits(9, 300, 2.0, (0.8, -0.8))
    fold = np.arange(300) % 3
    before = cross_fit(logits, target, fold)
    after = cross_fit(logits, np.where(fold == 0, 1 - target, target), fold)
    np.testing.assert_array_equal(before[fold == 0], after[fold == 0])
    assert (before[fold != 0] != after[fold != 0]).any()


def test_the_brier_score_of_two_classes_is_twice_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    positive, truth = generator.uniform(size=50), generator.integers(0, 2, 50)
    errors = calibration_errors(np.stack([1 - positive, positive], axis=1), truth)
    assert errors["brier"] == pytest.approx(2 * brier_score_loss(truth, positive))


def test_errors_of_two_images_are_those_a_hand_computes() -> None:
    errors = calibration_errors(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0]))
    assert errors == pytest.approx(
        {
            "log_loss": -(np.log(0.8) + np.log(0.4)) / 2,
            "brier": (2 * 0.2**2 + 2 * 0.6**2) / 2,
            "ece": (abs(0.8 - 1) + abs(0.6 - 0)) / 2,
        }
    )


def test_errors_of_three_classes_are_those_a_hand_computes() -> None:
    errors = calibration_errors(np.array([[0.2, 0.5, 0.3]]), np.array([2]))
    assert errors == pytest.approx({"log_loss": -np.log(0.3), "brier": 0.2**2 + 0.5**2 + 0.7**2, "ece": 0.5})


def test_a_certain_mistake_has_a_finite_log_loss_and_certain_truth_no_error() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert calibration_errors(certain, np.array([0, 1])) == {"log_loss": 0, "brier": 0, "ece": 0}
    wrong = calibration_errors(certain, np.array([1, 0]))
    assert (wrong["brier"], wrong["ece"]) == (2, 1)
    assert 30 < wrong["log_loss"] < 40


@pytest.mark.parametrize("n_images", [7, 15, 40, 100])
def test_ece_is_the_gap_in_fifteen_bins_of_equally_many_images(n_images: int) -> None:
    logits, target = draw_logits(10, n_images, 1.0, (0.5, -0.5, 0.0))
    probability = softmax(logits, axis=1)
    images = sorted((max(row), int(np.argmax(row) == label)) for row, label in zip(probability, target, strict=True))
    n_bins = min(15, n_images)
    sizes = [n_images // n_bins + (number < n_images % n_bins) for number in range(n_bins)]
    ece = 0.0
    for size in sizes:
        inside, images = images[:size], images[size:]
        ece += size / n_images * abs(sum(c for c, _ in inside) / size - sum(right for _, right in inside) / size)
    assert calibration_errors(probability, target)["ece"] == pytest.approx(ece, abs=1e-12)


@pytest.mark.parametrize("decimals", [15, 1])
def test_errors_do_not_depend_on_the_order_of_images_with_ties_or_without(decimals: int) -> None:
    logits, target = draw_logits(11, 200, 2.0, (0.5, -0.5))
    positive = np.round(softmax(logits, axis=1)[:, 1], decimals)
    probability = np.stack([1 - positive, positive], axis=1)
    by_label = np.argsort(target, kind="stable")
    shuffled = np.random.default_rng(12).permutation(200)
    first, second = (calibration_errors(probability[order], target[order]) for order in (by_label, shuffled))
    assert first == pytest.approx(second, abs=1e-12)


def sensitivity(probability: NDArray[np.float64], truth: NDArray[np.bool_], threshold: float) -> float:
    return sum(p >= threshold for p in probability[truth]) / truth.sum()


def specificity(probability: NDArray[np.float64], truth: NDArray[np.bool_], threshold: float) -> float:
    return sum(p < threshold for p in probability[~truth]) / (~truth).sum()


def require_what_is_promised(probability: NDArray[np.float64], truth: NDArray[np.bool_]) -> None:
    """Compare each operating point with every possible threshold: each image's probability, and one above all."""
    fitted = fit_thresholds(probability, truth, 0.4)
    possible = [*np.unique(probability).tolist(), NOBODY]
    sensitivities = {t: sensitivity(probability, truth, t) for t in [*possible, *fitted.values()]}
    specificities = {t: specificity(probability, truth, t) for t in [*possible, *fitted.values()]}
    assert (fitted["half"], fitted["balanced"]) == (0.5, 0.4)
    best = max(sensitivities[t] + specificities[t] for t in possible)
    assert sensitivities[fitted["youden"]] + specificities[fitted["youden"]] == pytest.approx(best, abs=1e-12)
    assert fitted["sensitivity_95"] == max(t for t in possible if sensitivities[t] >= 0.95)
    lowest = min(t for t in possible if specificities[t] >= 0.95)
    assert specificities[fitted["specificity_95"]] >= 0.95
    assert fitted["specificity_95"] == lowest or (lowest == NOBODY and fitted["specificity_95"] > probability.max())


@pytest.mark.parametrize("decimals", [15, 2, 1])
@pytest.mark.parametrize("n_images", [5, 40, 400])
@pytest.mark.parametrize("seed", range(3))
def test_each_operating_point_keeps_its_promise_against_every_threshold_there_is(
    seed: int, n_images: int, decimals: int
) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.permutation(np.arange(n_images) % 3 > 0)
    probability = np.round(norm.cdf(generator.normal(1.2 * truth - 0.6)) * 0.94, decimals)
    assert probability.max() < 1
    require_what_is_promised(probability, truth)


@pytest.mark.parametrize("n_negatives", [19, 20, 21, 39, 40, 60, 100, 140])
def test_exactly_95_percent_is_enough(n_negatives: int) -> None:
    probability = np.linspace(0.01, 0.99, 2 * n_negatives)
    for truth in (np.arange(2 * n_negatives) % 2 == 0, np.arange(2 * n_negatives) < n_negatives):
        require_what_is_promised(probability, truth)


def test_classes_told_apart_without_an_error_are_told_apart_at_the_lowest_positive_image() -> None:
    truth = np.arange(30) >= 10
    probability = np.where(truth, 0.6, 0.2) + np.arange(30) / 1000
    require_what_is_promised(probability, truth)
    fitted = fit_thresholds(probability, truth, 0.4)
    assert fitted["youden"] == fitted["specificity_95"] == probability[10]
    assert fitted["sensitivity_95"] == probability[11], "one of twenty positive images may be missed"


def test_images_that_cannot_be_told_apart_keep_the_promises_too() -> None:
    require_what_is_promised(np.full(40, 0.7), np.arange(40) % 2 == 0)
    require_what_is_promised(np.linspace(0.1, 0.9, 40), np.arange(40) < 20)


@pytest.mark.parametrize("probability", [[0.2, 0.9, 1.0, 1.0], [0.2, 1.0, 0.1, 1.0], [1.0, 1.0, 1.0, 1.0]])
def test_negative_images_of_probability_one_do_not_break_a_promise(probability: list[float]) -> None:
    require_what_is_promised(np.array(probability), np.array([True, True, False, False]))


def test_the_order_of_images_does_not_move_a_threshold() -> None:
    generator = np.random.default_rng(13)
    truth = generator.random(200) < 0.4
    probability = np.round(np.clip(generator.normal(0.4 + 0.2 * truth, 0.15), 0, 0.99), 2)
    order = generator.permutation(200)
    assert fit_thresholds(probability, truth, 0.4) == fit_thresholds(probability[order], truth[order], 0.4)


def test_an_image_of_two_classes_is_predicted_positive_from_the_threshold_up() -> None:
    positive = np.array([0.1, 0.3, 0.7, np.nextafter(0.3, 0)])
    probability = np.stack([1 - positive, positive], axis=1)
    assert predict_labels(probability, Classes("NP"), 0.3).tolist() == ["N", "P", "P", "N"]
    assert predict_labels(probability, Classes("NP")).tolist() == ["N", "N", "P", "N"]
    assert predict_labels(np.array([[0.5, 0.5]]), Classes("NP")).tolist() == ["P"]


def test_an_image_of_three_classes_is_predicted_as_the_most_probable_whatever_the_threshold() -> None:
    probability = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0.1, 0.2, 0.7]])
    for threshold in (0.0, 0.5, 1.0):
        assert predict_labels(probability, Classes("abc"), threshold).tolist() == ["b", "a", "c"]


@pytest.mark.parametrize("classes", [Classes("NP"), Classes("abc")])
def test_without_images_nothing_is_predicted(classes: Classes) -> None:
    assert predict_labels(np.empty((0, len(classes))), classes).tolist() == []


def test_the_balanced_point_is_where_a_networks_logits_are_equal() -> None:
    calibration = Calibration(2.5, (0.7, -0.7))
    assert calibration.balanced == pytest.approx(1 / (1 + np.exp(1.4)))
    logits = np.random.default_rng(0).normal(0, 3, (500, 2))
    is_positive = calibration.probability(logits)[:, 1] >= calibration.balanced
    np.testing.assert_array_equal(is_positive, logits[:, 1] >= logits[:, 0])


def test_another_prevalence_by_hand() -> None:
    # of 1000 images 500 are positive; an image of probability 0.8 has odds of 4. With 100 positive ones of 1000, each
    # positive image is a fifth as frequent and each negative one 1.8 times: 4 · (0.1 / 0.5) / (0.9 / 0.5) = 4 / 9
    calibration = Calibration(1.0, (0.0, 0.0)).shifted(prior_shift(0.5, 0.1))
    logits = np.array([[0.0, np.log(4)]])
    assert calibration.probability(logits)[0, 1] == pytest.approx((4 / 9) / (1 + 4 / 9))
    assert sum(calibration.bias) == 0
    assert calibration.balanced == pytest.approx(0.1), "equally likely images are as frequent as their classes"
    assert prior_shift(0.3, 0.3) == 0
    assert prior_shift(0.2, 0.7) == pytest.approx(-prior_shift(0.7, 0.2))


def test_moved_thresholds_call_the_same_images_positive_but_for_half() -> None:
    probability = np.random.default_rng(1).random(200)
    thresholds = {"half": 0.5, "balanced": 0.3, "youden": 0.62, "sensitivity_95": 0.1, "specificity_95": NOBODY}
    offset = prior_shift(0.7, 0.2)
    odds = probability / (1 - probability) * (0.2 / 0.8) / (0.7 / 0.3)
    moved = shift_thresholds(thresholds, offset)
    for point in ("balanced", "youden", "sensitivity_95", "specificity_95"):
        assert ((odds / (1 + odds) >= moved[point]) == (probability >= thresholds[point])).all()
    assert moved["half"] == 0.5
    assert moved["specificity_95"] == NOBODY


def test_prevalences_agree_with_a_set_that_is_thinned_out() -> None:
    logits, target = draw_logits(14, 60_000, 1.0, (0.0, 0.0))
    generator = np.random.default_rng(15)
    kept = (target == 0) | (generator.random(len(target)) < 0.2)
    before, after = (float((t == 1).mean()) for t in (target, target[kept]))
    refitted = fit_calibration(logits[kept], target[kept])
    moved = fit_calibration(logits, target).shifted(prior_shift(before, after))
    assert moved.bias == pytest.approx(refitted.bias, abs=0.03)
    assert moved.temperature == pytest.approx(refitted.temperature, rel=0.03)


def test_findings_are_calibrated_each_by_itself_as_two_classes() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 4, 2))
    own = Calibration(2.0, (0.5, -0.5)), Calibration(0.7, (-0.1, 0.1))
    found = CalibrationOfFindings(own).probability(logits)
    assert found.shape == logits.shape
    for k, calibration in enumerate(own):
        expected = expit(logits[..., k] / calibration.temperature + calibration.log_odds)
        np.testing.assert_allclose(found[..., k], expected, rtol=1e-12)
