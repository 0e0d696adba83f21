import numpy as np
import pandas as pd
import pytest

from benchmarks import coverage
from cxr.metrics.bootstrap import (
    N_REPLICATES,
    Replicates,
    draw_groups,
    percentile_interval,
    replicate_mean,
    replicate_metrics,
)
from cxr.metrics.classification import COUNTS, binary_metrics
from tests.support.predictions import draw_images


@pytest.mark.parametrize("seed", range(3))
def test_each_replicate_equals_the_metrics_of_the_images_it_draws(seed: int) -> None:
    truth, predicted, probability, group = draw_images(seed)
    drawn = draw_groups(25, seed=seed)
    replicates = replicate_metrics(truth, predicted, probability, group, drawn)
    accuracy = replicate_mean(truth == predicted, group, drawn)
    for number in (0, 1, 99, 100, 999):
        images = np.repeat(np.arange(len(truth)), drawn[number, group].astype(int))
        expected = binary_metrics(truth[images], predicted[images], probability[images])
        assert accuracy[number] == pytest.approx(expected["accuracy"].value, abs=1e-12)
        for name in set(expected) - set(COUNTS):
            assert replicates[name][number] == pytest.approx(expected[name].value, abs=1e-12, nan_ok=True), name


def test_a_replicate_draws_as_many_groups_as_there_are() -> None:
    drawn = draw_groups(7)
    assert drawn.shape == (N_REPLICATES, 7)
    assert (drawn.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(drawn, draw_groups(7))


def test_parts_of_a_set_share_its_draws() -> None:
    truth, predicted, probability, group = draw_images()
    replicates = Replicates.of(pd.Series(group).map("person{}".format))
    inside = truth | (probability > 0.2)
    part = replicates.part(inside)
    assert part.drawn is replicates.drawn
    drawn = replicates.drawn[7]
    images = [k for k in np.flatnonzero(inside) for _ in range(int(drawn[replicates.group[k]]))]
    expected = binary_metrics(truth[images], predicted[images], probability[images])
    found = part.metrics(truth[inside], predicted[inside], probability[inside])
    assert found["sensitivity"][7] == pytest.approx(expected["sensitivity"].value)
    assert part.mean((truth == predicted)[inside])[7] == pytest.approx(expected["accuracy"].value)


def test_more_images_of_the_same_patients_do_not_narrow_an_interval() -> None:
    truth, predicted, probability, group = draw_images()
    drawn = draw_groups(25)
    once = replicate_metrics(truth, predicted, probability, group, drawn)
    fourfold = replicate_metrics(*(np.tile(values, 4) for values in (truth, predicted, probability, group)), drawn)
    for name, values in once.items():
        np.testing.assert_allclose(values, fourfold[name], atol=1e-12)


def test_images_of_one_patient_alone_have_no_interval() -> None:
    truth, predicted, probability, group = draw_images()
    for same, drawn in ((np.zeros_like(group), draw_groups(1)), (np.full_like(group, 3), draw_groups(25))):
        for values in replicate_metrics(truth, predicted, probability, same, drawn).values():
            assert np.isnan(percentile_interval(values)).all()
        assert np.isnan(replicate_mean(truth, same, drawn)).all()


def test_an_undefined_metric_has_no_interval_and_undefined_replicates_do_not_count() -> None:
    assert np.isnan(percentile_interval(np.array([np.nan, np.nan]))).all()
    assert percentile_interval(np.array([np.nan, 2.0, 2.0])) == (2.0, 2.0)
    low, high = percentile_interval(np.linspace(0, 1, 1001))
    assert (low, high) == pytest.approx((0.025, 0.975))


def test_intervals_over_patients_hold_the_truth_and_intervals_over_images_are_too_narrow() -> None:
    """60 of the simulations that `benchmarks.coverage` does 1,000 of."""
    held: dict[str, list[bool]] = {"patients": [], "images": []}
    for seed in range(60):
        images = coverage.simulate(seed)
        for kind, group in (("patients", images[2]), ("images", np.arange(len(images[2])))):
            low, high = coverage.intervals(images, group, seed)["roc_auc"]
            held[kind].append(low <= coverage.TRUTH["roc_auc"] <= high)
    assert np.mean(held["patients"]) >= 0.86, "0.95 less three standard errors"
    assert np.mean(held["images"]) < 0.86
