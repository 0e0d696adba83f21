import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.report_numbers import disagreements
from cxr.storage.appraisal_folder import AppraisalFolder
from tests.support.predictions import CLASSES, simulate
from tests.support.shared import NewFolder
from tests.support.tables_of_others import appraised


def text_of(folder: AppraisalFolder) -> str:
    """The words of a report, without styles and figures."""
    page = re.sub(r"<(style|svg).*?</\1>", "", folder.report.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    images = simulate(200)
    columns = dict(zip(CLASSES.probability_columns, images.probability.T, strict=True))
    return images.predictions[["path", "label", "group_id", "fold"]].assign(**columns)


@pytest.fixture(scope="module")
def bare(table: pd.DataFrame, new_folder: NewFolder) -> AppraisalFolder:
    """An appraisal of a table that has neither patients nor folds."""
    return appraised(new_folder("bare"), "bare", table.drop(columns=["group_id", "fold"]))


@pytest.fixture(scope="module")
def full(table: pd.DataFrame, new_folder: NewFolder) -> AppraisalFolder:
    """An appraisal of a table with patients, folds that patients cross, a subgroup, and a label left out."""
    sex = np.where(np.arange(200) % 2, "F", "M")
    fold = np.arange(200) % 4
    label = table["label"].where(np.arange(200) > 0)
    changed = table.assign(sex=sex, fold=fold, label=label)
    return appraised(new_folder("full"), "full", changed, "--subgroup-column=sex", "--blank=mask")


def test_every_number_is_that_of_a_table(bare: AppraisalFolder, full: AppraisalFolder) -> None:
    for folder in (bare, full):
        n_compared, wrong = disagreements(folder.path)
        assert n_compared > 200
        assert not wrong


def test_every_link_has_its_target(bare: AppraisalFolder, full: AppraisalFolder) -> None:
    for folder in (bare, full):
        page = folder.report.read_text()
        assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))
        assert not re.search(r"https?://(?!www\.w3\.org|purl\.org|creativecommons\.org|matplotlib\.org)", page)


def test_a_table_without_folds_and_patients_is_said_to_have_none(bare: AppraisalFolder) -> None:
    text = text_of(bare)
    assert "The table has no folds, so every figure is of all images at once." in text
    assert "The table has no patients, so each image counts as a patient." in text
    assert "bootstrap over images" in text
    assert "there are no folds, so the images were divided at random into 5 parts" in text
    assert "mean of the folds" not in text
    assert "over folds" not in text
    assert "out of fold" not in bare.report.read_text()
    assert not (bare.figures / "folds.svg").exists()
    assert "the table has no column that divides the images into subgroups" in text


def test_patients_in_several_folds_are_counted_and_a_subgroup_is_shown(full: AppraisalFolder) -> None:
    text = text_of(full)
    counted = re.search(r"(\d+) patients have images in more than one fold", text)
    assert counted
    rows = pd.read_parquet(full.predictions)
    assert int(counted[1]) == (rows.groupby("group_id")["fold"].nunique() > 1).sum() > 0
    assert "bootstrap over patients" in text
    assert "Mean ± sd over folds" in text
    assert "1 without a label" in text
    assert "sex F PNEUMONIA ROC-AUC" in text


def test_what_cannot_be_known_is_said_to_be_missing(bare: AppraisalFolder) -> None:
    missing = text_of(bare).partition("What is missing The report")[2].partition("Provenance")[0]
    assert all(
        word in missing for word in ("Leakage", "near-duplicates", "maps of where", "learning curve", "guidelines")
    )


def test_names_from_the_table_cannot_become_markup(table: pd.DataFrame, tmp_path: Path) -> None:
    evil = table.assign(path="<img src=x onerror=alert(1)>" + table["path"]).drop(columns="fold")
    page = appraised(tmp_path, "evil", evil).report.read_text()
    assert "<img" not in page
    assert "&lt;img src=x" in page


def test_three_classes_have_a_report_that_says_what_does_not_apply(tmp_path: Path) -> None:
    probability = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    columns = {f"probability_{name}": probability[:, k] for k, name in enumerate("ABC")}
    table = pd.DataFrame({"path": [f"{k}.png" for k in range(60)], "label": list("ABC") * 20} | columns)
    folder = appraised(tmp_path, "three", table)
    assert "operating points are defined for two classes; this table has 3" in text_of(folder)
    assert not disagreements(folder.path)[1]
