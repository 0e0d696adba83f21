from typing import get_args

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from cxr.classes import Classes, Findings
from cxr.config import OperatingPoint
from cxr.errors import ConfigError, PackageError
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.export.fitted import (
    Fitted,
    at_prevalence,
    fit_findings,
    fit_out_of_fold,
    require_operating_point,
    require_prevalence,
)
from cxr.metrics.calibration import Calibration
from tests.support.predictions import simulate

TWO, THREE, FINDINGS = Classes("ab"), Classes("abc"), Findings("ab")


def test_what_is_fitted_out_of_fold_says_the_prevalence_of_its_images() -> None:
    images = simulate(200)
    fitted = fit_out_of_fold(images, None)
    own = (images.predictions["label"] == "PNEUMONIA").mean()
    assert fitted.origin == {"source": "out_of_fold", "prevalence": pytest.approx(own), "stated_prevalence": None}
    assert fitted.calibration == images.calibration
    stated = fit_out_of_fold(images, 0.05)
    assert stated.origin == fitted.origin | {"stated_prevalence": 0.05}
    assert stated.calibration != fitted.calibration


def test_more_than_two_classes_have_no_prevalence_and_no_thresholds() -> None:
    fitted = fit_out_of_fold(simulate(200, classes=Classes("abc")), None)
    assert (fitted.thresholds, fitted.origin["prevalence"]) == ({}, None)


def test_another_prevalence_moves_the_odds_by_its_ratio_and_no_decision_but_that_of_half() -> None:
    logits = np.random.default_rng(0).normal(size=(500, 2))
    before = Fitted(Calibration(1.5, (-0.2, 0.2)), {"half": 0.5, "youden": 0.4}, {"prevalence": 0.4})
    after = at_prevalence(before, 0.1)
    p, q = (fitted.calibration.probability(logits)[:, 1] for fitted in (before, after))
    ratio = (0.1 / 0.9) / (0.4 / 0.6)
    np.testing.assert_allclose(q, expit(logit(p) + np.log(ratio)))
    assert ((p >= 0.4) == (q >= after.thresholds["youden"])).all()
    assert after.thresholds["half"] == 0.5
    assert after.origin == {"prevalence": 0.4, "stated_prevalence": 0.1}


def test_each_finding_is_fitted_on_the_images_in_which_it_is_known() -> None:
    images = simulate(300).predictions
    label = pd.array(images["label"] == "PNEUMONIA", "boolean")
    known = images.index < 200
    table = images.assign(finding_A=label, finding_B=pd.Series(label).mask(~known), fold=images.index % 5)
    logits = images["logit_PNEUMONIA"] - images["logit_NORMAL"]
    table = table.assign(**{f"logit_{name}": logits for name in "AB"})
    table = table.assign(**{f"probability_{name}": expit(logits) for name in "AB"})
    fitted = fit_findings(FindingsOutOfFold(table, Findings("AB")))
    assert fitted.origin["prevalence_of"] == pytest.approx({"A": label.mean(), "B": label[known].mean()})
    assert set(fitted.thresholds) == {"A", "B"}
    for thresholds in fitted.thresholds.values():
        assert set(thresholds) == set(get_args(OperatingPoint))


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, float("nan")])
def test_a_prevalence_beyond_its_range_is_refused_whatever_the_outputs(prevalence: float) -> None:
    for outputs in (TWO, THREE, FINDINGS):
        with pytest.raises(ConfigError, match="--prevalence must lie between 0 and 1, and be neither, got"):
            require_prevalence(prevalence, outputs)


def test_a_prevalence_is_for_two_classes_alone() -> None:
    require_prevalence(0.5, TWO)
    for outputs in (TWO, THREE, FINDINGS):
        require_prevalence(None, outputs)
    with pytest.raises(PackageError, match="--prevalence needs two classes, and there are 3: leave it out"):
        require_prevalence(0.5, THREE)
    with pytest.raises(PackageError, match="--prevalence needs two classes, and there are several findings, each with"):
        require_prevalence(0.5, FINDINGS)


@pytest.mark.parametrize("point", get_args(OperatingPoint))
def test_more_than_two_classes_have_no_operating_point_to_choose(point: OperatingPoint) -> None:
    for outputs in (TWO, FINDINGS):
        require_operating_point(point, outputs)
    if point == "youden":
        require_operating_point(point, THREE)
        return
    with pytest.raises(PackageError, match=f"--operating-point {point} needs two classes, and there are 3: leave it"):
        require_operating_point(point, THREE)
