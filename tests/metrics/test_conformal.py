import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from cxr.metrics.conformal import Referral, class_threshold, fit_referral, least_patients, patients_of_classes

N_DATA_SETS = 400


def test_the_threshold_is_the_quantile_worked_by_hand() -> None:
    probability = np.array([0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    own_patient = np.arange(9)
    # (9 + 1)(1 - 0.1) = 9: the ninth from the top; at 0.2 the eighth, at 0.35 ceil(6.5) = the seventh
    assert [class_threshold(probability, own_patient, level) for level in (0.1, 0.2, 0.35)] == [0.3, 0.4, 0.5]
    assert math.isnan(class_threshold(probability[:8], own_patient[:8], 0.1))
    assert math.isnan(class_threshold(probability[:0], own_patient[:0], 0.1))


def test_each_patient_counts_once_whatever_number_of_images_it_has() -> None:
    probability = np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.3, 0.4])
    patient = np.array([0, 1, 2, 3, 3, 3, 3])
    # of 4 patients and one more, (4 + 1)(1 - 0.3) = 3.5 are needed: three, and two of the four images of the last
    assert class_threshold(probability, patient, 0.3) == 0.3
    assert class_threshold(probability, patient, 0.4) == 0.7
    assert class_threshold(probability, np.arange(7), 0.3) == 0.2, "as images: (7 + 1)(1 - 0.3) = 5.6, the sixth"


def test_the_order_of_images_and_any_scale_that_keeps_it_change_nothing() -> None:
    generator = np.random.default_rng(0)
    probability, patient = generator.random(200), generator.integers(0, 80, 200)
    order = generator.permutation(200)
    threshold = class_threshold(probability, patient, 0.1)
    assert class_threshold(probability[order], patient[order], 0.1) == threshold
    assert class_threshold(probability**3, patient + 7, 0.1) == threshold**3


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 1 / 3, 0.5])
def test_the_least_number_of_patients_is_the_first_that_gives_a_threshold(level: float) -> None:
    n = least_patients(level)
    exact = Fraction(level).limit_denominator(1000)
    assert (n + 1) * exact >= 1 > n * exact
    assert class_threshold(np.linspace(0.9, 0.1, n), np.arange(n), level) == pytest.approx(0.1 if n > 1 else 0.9)
    assert math.isnan(class_threshold(np.full(n - 1, 0.5), np.arange(n - 1), level))


def draw(generator: np.random.Generator, n_patients: int, *, several: bool) -> tuple[np.ndarray, ...]:
    """Draw patients of two classes, one in four positive, with an effect of their own; hard ones have more images."""
    target = (np.arange(n_patients) % 4 == 0).astype(int)
    effect = generator.normal(scale=1.5, size=n_patients)
    n_images = np.where(effect * (2 * target - 1) < 0, 6, 1) if several else np.ones(n_patients, dtype=int)
    group = np.repeat(np.arange(n_patients), n_images)
    odds = 2 * (2 * target[group] - 1) + effect[group] + generator.normal(size=len(group))
    positive = 1 / (1 + np.exp(-odds))
    return np.column_stack([1 - positive, positive]), target[group], group


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("level", [0.05, 0.1, 0.2])
def test_of_each_class_the_stated_share_is_excluded_for_an_image_of_a_new_patient(level: float, several: bool) -> None:
    generator = np.random.default_rng(int(1000 * level) + several)
    n_excluded = np.zeros(2)
    n_new, shares = 40, np.array([0.75, 0.25])
    for _ in range(N_DATA_SETS):
        referral = fit_referral(*draw(generator, 120, several=several), level)
        probability, target, group = draw(generator, n_new, several=several)
        first = np.unique(group, return_index=True)[1]
        misses = ~referral.fits(probability[first])[np.arange(n_new), target[first]]
        n_excluded += np.bincount(target[first], misses, 2)
    n, n_patients = N_DATA_SETS * n_new * shares, 120 * shares
    # thresholds judge several new images, whose number of misses is beta-binomial: wider than binomial by this factor
    wider = np.sqrt(1 + (n_new * shares - 1) / (n_patients + 2))
    slack = wider * (binom.ppf(0.999, n, level) - n * level)
    assert (n_excluded <= n * level + slack).all()
    assert (n_excluded >= n * (level - 1 / (n_patients + 1)) - slack).all(), "not far below either"


def test_thresholds_of_five_models_exclude_about_the_stated_share_where_their_mean_is_judged() -> None:
    generator = np.random.default_rng(5)
    level, n_folds, n_images = 0.1, 5, 100
    fold = np.arange(n_images) % n_folds
    n_excluded, n = np.zeros(2), np.zeros(2)
    for _ in range(200):
        target = generator.integers(0, 2, 2 * n_images)
        features = generator.normal(size=(2 * n_images, 5)) + 0.7 * target[:, None]
        design = np.column_stack([features, np.ones(len(features))])
        outside = [np.flatnonzero(fold != k) for k in range(n_folds)]
        models = [np.linalg.lstsq(design[rows], 2 * target[rows] - 1, rcond=None)[0] for rows in outside]
        positive = 1 / (1 + np.exp(-3 * design @ np.column_stack(models)))
        out_of_fold, mean = positive[np.arange(n_images), fold], positive[n_images:].mean(axis=1)
        own, new = target[:n_images], target[n_images:]
        referral = fit_referral(np.column_stack([1 - out_of_fold, out_of_fold]), own, np.arange(n_images), level)
        misses = ~referral.fits(np.column_stack([1 - mean, mean]))[np.arange(n_images), new]
        n_excluded += np.bincount(new, misses, 2)
        n += np.bincount(new, minlength=2)
    assert (n_excluded / n < 2 * level).all(), "what the theorem of CV+ allows"
    assert n_excluded / n == pytest.approx(level, abs=0.02)


def test_counting_images_as_patients_would_exclude_too_few_or_too_many() -> None:
    generator = np.random.default_rng(3)
    probability, target, group = draw(generator, 4000, several=True)
    first = np.unique(group, return_index=True)[1]
    own = probability[np.arange(len(target)), target]
    by_image = class_threshold(own[target == 0], np.arange((target == 0).sum()), 0.1)
    by_patient = class_threshold(own[target == 0], group[target == 0], 0.1)
    negative = first[target[first] == 0]
    assert (own[negative] < by_patient).mean() == pytest.approx(0.1, abs=0.01)
    assert abs((own[negative] < by_image).mean() - 0.1) > 0.02


def test_classes_fit_from_their_thresholds_up() -> None:
    referral = Referral(0.1, (0.3, 0.6))
    probability = np.array([[0.3, 0.7], [0.29, 0.71], [0.6, 0.4], [0.41, 0.59], [0.2, 0.59]])
    assert referral.fits(probability).tolist() == [
        [True, True],
        [False, True],
        [True, False],
        [True, False],
        [False] * 2,
    ]
    assert referral.is_defined
    assert not fit_referral(probability, np.array([0, 0, 0, 0, 1]), np.arange(5), 0.4).is_defined


def test_patients_are_counted_by_class() -> None:
    assert patients_of_classes(np.array([0, 0, 1, 1, 0]), np.array([4, 4, 4, 7, 8]), 3) == [2, 2, 0]
