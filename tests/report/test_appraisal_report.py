import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.report_numbers import disagreements
from cxr.storage.appraisal_folder import AppraisalFolder
from tests.support.findings import FINDINGS, simulate_findings
from tests.support.predictions import CLASSES, simulate
from tests.support.shared import NewFolder
from tests.support.tables_of_others import appraised


def text_of(folder: AppraisalFolder) -> str:
    """The words of a report, without styles and figures."""
    return words_of(folder.report)


def words_of(file: Path) -> str:
    page = re.sub(r"<(style|svg).*?</\1>", "", file.read_text(), flags=re.DOTALL)
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


@pytest.fixture(scope="module")
def findings(new_folder: NewFolder) -> AppraisalFolder:
    """An appraisal of three findings, without folds, of patients; nothing is known of some images."""
    images = simulate_findings(200).predictions.drop(columns=["label", "fold", *FINDINGS.logit_columns])
    images.loc[:2, FINDINGS.columns] = None
    return appraised(new_folder("findings"), "findings", images, "--blank=mask")


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


def test_findings_have_an_overview_that_leads_to_a_page_of_each(findings: AppraisalFolder) -> None:
    names = [f"report-{k}-{name}.html" for k, name in enumerate(FINDINGS, 1)]
    assert sorted(path.name for path in findings.path.glob("report-*.html")) == names
    for file in (findings.report, *(findings.path / name for name in names)):
        page = file.read_text()
        links = set(re.findall(r'href="(?!data:)([^"#]+)', page))
        assert links == {*names, "report.html"} - {file.name}
        for target, place in re.findall(r'href="([^"#]*)#([^"]+)"', page):
            assert f'id="{place}"' in (findings.path / (target or file.name)).read_text()
    n_compared, wrong = disagreements(findings.path)
    assert n_compared > 600
    assert not wrong


def test_a_page_of_a_finding_is_about_the_images_in_which_it_is_known(findings: AppraisalFolder) -> None:
    rows = pd.read_parquet(findings.predictions)
    known = rows["finding_Mass"].notna()
    text = words_of(findings.report_of(2, "Mass"))
    assert "predictions of whether an image shows Mass" in text
    assert f"This page is about the {known.sum()} images in which that is known; in {(~known).sum()} it is" in text
    assert (findings.figures / "finding-2-roc.svg").exists()
    overview = text_of(findings)
    assert "3 without a known finding" in overview
    assert "What is missing The report of a run" in overview
    assert "over folds" not in overview


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
