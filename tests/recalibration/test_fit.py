"""What is fitted to labelled images, and what a version says of it: on a package in memory and drawn predictions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import logit, softmax

from cxr.classes import Classes
from cxr.images.source import open_source
from cxr.metrics import recalibration
from cxr.metrics.calibration import Calibration
from cxr.recalibration.fit import fit_labelled
from cxr.recalibration.labelled_images import LabelledImages
from cxr.recalibration.labels import Labels
from cxr.serving.package import Package
from cxr.storage.files import sha256_of
from cxr.storage.model_folder import PackageFolder

N_IMAGES = 60
POINTS = ("half", "balanced", "youden", "sensitivity_95", "specificity_95")


@pytest.fixture(autouse=True)
def few_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalibration, "N_DRAWS", 20)


def package(place: Path, classes: Classes, calibration: Calibration) -> Package:
    folder = PackageFolder(place / "1")
    folder.path.mkdir()
    folder.checksums.write_text("")
    thresholds = dict.fromkeys(POINTS, 0.4) if classes.is_binary else {}
    return Package(folder, "tiny", classes, "head", 32, 2, calibration, thresholds, "youden", {})


def labels(place: Path) -> Labels:
    return Labels(pd.DataFrame(), open_source(str(place)), "a" * 64, "b" * 64)


def target_of(classes: Classes) -> NDArray[np.int64]:
    return np.arange(N_IMAGES) % len(classes)


def labelled(classes: Classes) -> LabelledImages:
    """Images that two folds separate, more or less."""
    target = target_of(classes)
    logits = np.random.default_rng(0).normal(size=(2, N_IMAGES, len(classes))) + 1.5 * np.eye(len(classes))[target]
    facts = {"image_id": [f"i{k}" for k in range(N_IMAGES)], "group": [f"g{k // 2}" for k in range(N_IMAGES)]}
    table = pd.DataFrame(facts | {"label": np.asarray(classes)[target]})
    left_out = {"unreadable": 1, "copy": 2, "in_training": 3}
    return LabelledImages(table, np.log(softmax(logits, axis=2)), np.zeros((0, 0, 0), np.uint8), left_out, 30)


TWO, THREE = Classes(["NORMAL", "PNEUMONIA"]), Classes("abc")


def test_the_origin_says_what_was_fitted_and_how_it_was_before(tmp_path: Path) -> None:
    start = package(tmp_path, TWO, Calibration(1.0, (-0.5, 0.5)))
    images = labelled(TWO)
    fitted = fit_labelled(start, labels(tmp_path), images, None)
    origin = fitted.origin
    expected = {
        "source": "labelled_images",
        "version": "1",
        "package": sha256_of(start.folder.checksums),
        "labels": "a" * 64,
        "n_images": {"NORMAL": 30, "PNEUMONIA": 30},
        "n_patients": 30,
        "left_out": {"unreadable": 1, "copy": 2, "in_training": 3},
        "prevalence": 0.5,
        "stated_prevalence": None,
    }
    assert {name: origin[name] for name in expected} == expected
    probability = np.exp(images.log_probability).mean(axis=0)
    target = target_of(TWO)
    before = origin["errors"]["before"]
    assert before["log_loss"] == pytest.approx(-np.log(probability[np.arange(N_IMAGES), target]).mean())
    assert before["brier"] == pytest.approx(((probability - np.eye(2)[target]) ** 2).sum() / N_IMAGES)
    rows = {row["operating_point"]: row for row in origin["operating_points"]}
    assert tuple(rows) == POINTS
    for point, row in rows.items():
        is_positive = probability[:, 1] >= 0.4
        assert row["sensitivity_before"] == pytest.approx(is_positive[target == 1].mean())
        assert row["specificity_before"] == pytest.approx((~is_positive[target == 0]).mean())
        assert row["threshold"] == fitted.thresholds[point]
    assert fitted.thresholds["balanced"] == pytest.approx(fitted.calibration.balanced)


def test_the_calibration_gives_logits_the_probabilities_of_the_fitted_map(tmp_path: Path) -> None:
    before = Calibration(2.0, (0.3, -0.1, -0.2))
    fitted = fit_labelled(package(tmp_path, THREE, before), labels(tmp_path), labelled(THREE), None)
    assert (fitted.thresholds, fitted.origin["operating_points"], fitted.origin["prevalence"]) == ({}, [], None)
    logits = np.random.default_rng(1).normal(size=(5, 3))
    moved = fitted.origin["slope"] * np.log(before.probability(logits)) + np.array(fitted.origin["bias"])
    np.testing.assert_allclose(fitted.calibration.probability(logits), softmax(moved, axis=1))


def test_a_stated_prevalence_moves_the_log_odds_by_that_of_the_images(tmp_path: Path) -> None:
    start, images = package(tmp_path, TWO, Calibration(1.0, (0.0, 0.0))), labelled(TWO)
    own, rare = (fit_labelled(start, labels(tmp_path), images, prevalence) for prevalence in (None, 0.02))
    assert rare.origin["stated_prevalence"] == 0.02
    moved = rare.calibration.log_odds - own.calibration.log_odds
    assert moved == pytest.approx(logit(0.02) - logit(0.5))
    assert rare.thresholds["half"] == 0.5
    for point in ("balanced", "youden"):
        assert logit(rare.thresholds[point]) - logit(own.thresholds[point]) == pytest.approx(moved)
