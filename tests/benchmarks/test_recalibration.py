import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm

from benchmarks.recalibration import N_REPETITIONS, judge, summary
from cxr.classes import Classes
from cxr.errors import RunError

CLASSES = Classes(["NORMAL", "PNEUMONIA"])
FIXED = {"half": 0.5, "balanced": 0.5, "youden": 0.5, "sensitivity_95": 0.5, "specificity_95": 0.5}


def site(n_images: int, share: float, shift: float) -> pd.DataFrame:
    """Images of another site whose log odds are 3 · score + shift, with two images of each patient."""
    generator = np.random.default_rng(0)
    truth = np.arange(n_images) < share * n_images
    probability = expit(3 * (3 * (truth - 0.5) + generator.normal(size=n_images)) + shift)
    label = np.where(truth, "PNEUMONIA", "NORMAL")
    columns = {"probability_NORMAL": 1 - probability, "probability_PNEUMONIA": probability}
    return pd.DataFrame({"label": label, "group_id": np.arange(n_images) // 2, **columns})


def test_a_site_whose_odds_are_moved_is_judged_before_and_after() -> None:
    rates, n_refused = judge(site(624, 0.6, 3.0), FIXED, CLASSES, 50)
    assert n_refused == 0
    assert rates["kind"].value_counts().to_dict() == {"fixed": N_REPETITIONS, "recalibrated": N_REPETITIONS}
    mean = rates.groupby("kind").mean()
    # the threshold lies one standard deviation too low for the fixed one, and where the classes' densities are equal
    assert mean.loc["fixed", "youden, specificity"] == pytest.approx(norm.cdf(0.5), abs=0.05)
    assert mean.loc["recalibrated", "youden, specificity"] == pytest.approx(norm.cdf(1.5), abs=0.04)
    assert mean.loc["recalibrated", "youden, sensitivity"] == pytest.approx(norm.cdf(1.5), abs=0.04)
    assert "half, sensitivity" in summary(rates, "fixed")


def test_draws_with_too_few_images_of_a_class_are_counted_or_end_it() -> None:
    _, n_refused = judge(site(600, 0.8, 0.0), FIXED, CLASSES, 25)
    assert 0 < n_refused < N_REPETITIONS
    with pytest.raises(RunError, match="draws of 25 images only 0 hold 5 of each class"):
        judge(site(600, 0.005, 0.0), FIXED, CLASSES, 25)
