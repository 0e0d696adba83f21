import numpy as np
import pytest
from sklearn import metrics as sk

from cxr.metrics.bootstrap import draw_groups
from cxr.metrics.curves import GRID, decision_curve, precision_recall_curve, reliability_curve, roc_curve
from tests.support.predictions import draw_images


@pytest.mark.parametrize("seed", range(3))
def test_the_roc_curve_is_scikit_learns_read_off_at_the_grid(seed: int) -> None:
    truth, _, probability, group = draw_images(seed)
    curve = roc_curve(truth, probability, group, draw_groups(25))
    rate, sensitivity, _ = sk.roc_curve(truth, probability, drop_intermediate=False)
    highest = [sensitivity[rate == x].max() if (rate == x).any() else np.interp(x, rate, sensitivity) for x in GRID]
    np.testing.assert_allclose(curve.y, highest, atol=1e-12)
    assert (curve.low <= curve.high).all()
    assert ((curve.low <= curve.y) & (curve.y <= curve.high)).mean() > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_precision_is_that_of_the_highest_threshold_which_reaches_the_recall(seed: int) -> None:
    truth, _, probability, group = draw_images(seed)
    curve = precision_recall_curve(truth, probability, group, draw_groups(25))
    for recall, precision in zip(GRID, curve.y, strict=True):
        thresholds = np.unique(probability)[::-1]
        found = next(t for t in thresholds if truth[probability >= t].sum() >= max(recall, 1e-9) * truth.sum() - 1e-9)
        assert precision == pytest.approx(truth[probability >= found].mean())


def test_a_replicate_that_draws_every_patient_once_is_the_curve_itself() -> None:
    truth, _, probability, group = draw_images()
    for draw in (roc_curve, precision_recall_curve):
        curve = draw(truth, probability, group, np.ones((3, 25)))
        np.testing.assert_allclose(curve.low, curve.y)
        np.testing.assert_allclose(curve.high, curve.y)


def test_with_one_class_there_is_no_curve() -> None:
    truth, _, probability, group = draw_images()
    for only in (np.zeros_like(truth), np.ones_like(truth)):
        assert np.isnan(roc_curve(only, probability, group, draw_groups(25)).y).all()
    assert np.isnan(precision_recall_curve(np.zeros_like(truth), probability, group, draw_groups(25)).y).all()


def test_reliability_by_hand() -> None:
    probability = np.array([0.1] * 10 + [0.9] * 10)
    truth = np.array([True] * 2 + [False] * 8 + [True] * 7 + [False] * 3)
    bins = reliability_curve(truth, probability, np.arange(20), draw_groups(20))
    np.testing.assert_allclose(bins.predicted, [0.1, 0.9])
    np.testing.assert_allclose(bins.observed, [0.2, 0.7])
    assert bins.n.tolist() == [10, 10]
    assert (bins.low <= bins.observed).all()
    assert (bins.observed <= bins.high).all()


def test_reliability_bins_hold_every_image_once_and_images_of_equal_score_share_one() -> None:
    truth, _, probability, group = draw_images(n_images=200)
    bins = reliability_curve(truth, probability, group, draw_groups(25))
    assert bins.n.sum() == 200
    assert np.average(bins.observed, weights=bins.n) == pytest.approx(truth.mean())
    same = reliability_curve(truth, np.full(200, 0.5), group, draw_groups(25))
    assert same.n.tolist() == [200]


def test_net_benefit_by_its_definition() -> None:
    truth, _, probability, group = draw_images()
    curve = decision_curve(truth, probability, group, draw_groups(25))
    for threshold, value, of_all in zip(curve.model.x, curve.model.y, curve.all, strict=True):
        predicted, odds = probability >= threshold, threshold / (1 - threshold)
        assert value == pytest.approx(((predicted & truth).sum() - odds * (predicted & ~truth).sum()) / len(truth))
        assert of_all == pytest.approx((truth.sum() - odds * (~truth).sum()) / len(truth))
