import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from cxr.metrics.bootstrap import draw_groups, percentile_interval, replicate_metrics
from cxr.metrics.delong import auc_difference, auc_interval, mean_auc_interval, placements
from tests.support.predictions import draw_images


def by_definition(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kernel over all pairs: 1 where the positive is ranked higher, one half where they tie."""
    pairs = np.sign(score[truth][:, None] - score[~truth][None, :]) / 2 + 0.5
    return pairs.mean(axis=1), pairs.mean(axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_with_each_image_a_group_the_variance_is_delongs_over_all_pairs(seed: int) -> None:
    truth, _, score, _ = draw_images(seed)
    of_positives, of_negatives = by_definition(truth, score)
    variance = of_positives.var(ddof=1) / truth.sum() + of_negatives.var(ddof=1) / (~truth).sum()
    auc = roc_auc_score(truth, score)
    half = norm.ppf(0.975) * np.sqrt(variance)
    assert placements(truth, score).auc == pytest.approx(auc)
    assert auc_interval(truth, score, np.arange(len(truth))) == pytest.approx((auc - half, min(auc + half, 1)))


def test_the_difference_of_two_scores_is_tested_with_their_covariance() -> None:
    truth, _, before, _ = draw_images(0)
    after = np.random.default_rng(5).random(len(truth)) * 0.4 + before
    parts = [by_definition(truth, score) for score in (before, after)]
    difference = roc_auc_score(truth, after) - roc_auc_score(truth, before)
    covariance = sum(np.cov(parts[0][k], parts[1][k]) / len(parts[0][k]) for k in (0, 1))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    measured, p = auc_difference(truth, before, after, np.arange(len(truth)))
    assert measured == pytest.approx(difference)
    assert p == pytest.approx(2 * norm.sf(abs(difference) / np.sqrt(variance)))


def test_repeating_each_patients_images_does_not_narrow_the_interval() -> None:
    truth, _, score, _ = draw_images(0)
    group = np.arange(len(truth))
    low, high = auc_interval(truth, score, group)
    fourfold = auc_interval(np.tile(truth, 4), np.tile(score, 4), np.tile(group, 4))
    assert fourfold == pytest.approx((low, high), abs=1e-9)
    naive = auc_interval(np.tile(truth, 4), np.tile(score, 4), np.arange(4 * len(truth)))
    assert naive[1] - naive[0] < 0.6 * (high - low)


def test_it_agrees_with_the_bootstrap_over_patients() -> None:
    generator = np.random.default_rng(2)
    group = generator.integers(0, 400, 1000)
    truth = (group % 3 > 0) & (generator.random(1000) < 0.95)
    score = truth * 0.8 + generator.normal(0, 1, 400)[group] * 0.5 + generator.normal(0, 0.5, 1000)
    replicates = replicate_metrics(truth, truth, score, group, draw_groups(400))["roc_auc"]
    assert auc_interval(truth, score, group) == pytest.approx(percentile_interval(replicates), abs=0.006)


def test_the_mean_of_folds_has_the_variance_of_a_mean_of_areas_that_share_no_patient() -> None:
    truth, _, score, _ = draw_images(0, n_images=90)
    fold, alone = np.arange(90) % 3, np.arange(90)
    halves = [np.diff(auc_interval(truth[fold == k], score[fold == k], alone[fold == k]))[0] / 2 for k in range(3)]
    auc = np.mean([roc_auc_score(truth[fold == k], score[fold == k]) for k in range(3)])
    half = np.sqrt(np.sum(np.square(halves))) / 3
    assert mean_auc_interval(truth, score, alone, fold) == pytest.approx((auc - half, auc + half))
    assert mean_auc_interval(truth, score, alone, np.zeros(90)) == auc_interval(truth, score, alone)
    assert np.isnan(mean_auc_interval(truth, score, alone, np.where(truth, 0, fold))).all(), "one class in a fold"


def test_what_cannot_be_told_is_nan_and_equal_rankings_do_not_differ() -> None:
    truth, _, score, group = draw_images(0)
    assert np.isnan(auc_interval(np.ones_like(truth), score, group)).all()
    assert np.isnan(auc_difference(np.zeros_like(truth), score, score, group)).all()
    assert auc_difference(truth, score, 3 * score + 1, group) == (0.0, 1.0)
    assert np.isnan(auc_interval(truth, score, np.zeros_like(group))).all(), "one patient alone"
