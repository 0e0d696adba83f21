import functools
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.config import ScoreConfig
from cxr.images.synthetic import draw_inbox
from cxr.pipeline import score_inbox
from cxr.report.scoring_report import markdown, write_scoring_report
from cxr.serving.scoring.outcome import Outcome
from cxr.serving.scoring.scoring_runs import ScoringRun
from cxr.wording import DISCLAIMER, format_estimate
from data_checks.gate import check_scores
from data_checks.tolerances import Tolerances
from tests.support.scores import draw_scores, label_scores
from tests.support.shared import NewFolder

HOSTILE = 'a|b`c<img src=x onerror=alert(1)>".jpeg'


@pytest.fixture(scope="module")
def concluded(home: Path, new_folder: NewFolder) -> tuple[ScoringRun, list[Outcome]]:
    """A scoring run of six images and six other files, one of them with a hostile name."""
    place = new_folder("concluded")
    draw_inbox(place / "inbox", n_images=6, seed=2)
    letter = place / "inbox" / "ward-3" / "letter.jpeg"
    letter.rename(letter.with_name(HOSTILE))
    folders = {"out": place / "scores", "models": home / "models", "cache": home / "cache"}
    config = ScoreConfig(name="tiny", settle=0, device="cpu", precision="fp32", compile="off", force=True, **folders)
    return score_inbox(place / "inbox", config, functools.partial(check_scores, limit=Tolerances()))


def test_the_page_shows_every_count_and_a_picture_of_what_can_be_shown(
    concluded: tuple[ScoringRun, list[Outcome]],
) -> None:
    scoring_run, (outcome,) = concluded
    page = scoring_run.folder.report.read_text()
    assert (outcome.n_scored, outcome.n_quarantined) == (6, 6)
    assert "<b>6</b>images scored" in page
    assert "<b>6</b>files quarantined" in page
    assert DISCLAIMER in page
    threshold = scoring_run.package().threshold
    for written in (
        "this batch",
        "Share of the images",
        "Probability of PNEUMONIA",
        f"threshold, Youden: {threshold:.3g}",
    ):
        assert f">{written}<" in page
    n_shown = len(outcome.nearest) + len(outcome.disagreeing) + len(outcome.unlike_training)
    assert len(re.findall(r'<img src="data:image/jpeg;base64,[^"]+" alt="image ', page)) == n_shown
    for row in outcome.nearest:
        assert f"probability of PNEUMONIA {100 * row['probability']:.1f}%, the folds differ" in page
    assert "<figcaption>Probability of PNEUMONIA: this batch beside the model's images, out of fold.</" in page
    assert "<h3>Quarantined: 6 files</h3>" in page
    for row in outcome.quarantined:
        assert row["reason"].replace("_", " ") in page


def test_the_page_shows_the_images_unlike_the_training_images_and_counts_other_files_apart(
    home: Path, tmp_path: Path
) -> None:
    draw_inbox(tmp_path / "inbox", n_images=2, seed=2)
    batch = tmp_path / "inbox" / "ward-3"
    (batch / "labels.csv").write_text("path,label\n")
    Image.fromarray(np.kron([[0, 255], [255, 0]], np.ones((60, 60))).astype(np.uint8)).save(batch / "board.png")
    folders = {"out": tmp_path / "scores", "models": home / "models", "cache": home / "cache"}
    config = ScoreConfig(name="tiny", settle=0, device="cpu", precision="fp32", compile="off", **folders)
    scoring_run, (outcome,) = score_inbox(tmp_path / "inbox", config, lambda *_: [])
    assert [row["path"] for row in outcome.unlike_training] == ["board.png"]
    assert (outcome.n_unlike_training, outcome.n_quarantined, outcome.other_files) == (1, 6, {"text": 1})
    page = scoring_run.folder.report.read_text()
    assert "<h3>Unlike the training images: 1</h3>" in page
    assert page.count("board.png</figcaption>") == 1, "it is not among those that are worth a second look"
    assert f"<b>novelty {outcome.unlike_training[0]['novelty']:.1f}</b>" in page
    assert "<b>1</b>other files" in page
    assert "Other files, which are no images: 1 × text." in page


def test_a_hostile_file_name_stays_text_and_the_page_needs_no_network(
    concluded: tuple[ScoringRun, list[Outcome]],
) -> None:
    page = concluded[0].folder.report.read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_a_page_drawn_when_the_images_are_gone_has_no_pictures(
    concluded: tuple[ScoringRun, list[Outcome]], tmp_path: Path
) -> None:
    scoring_run, outcomes = concluded
    inbox = shutil.move(scoring_run.inbox, tmp_path / "away")
    try:
        write_scoring_report(scoring_run, outcomes)
        page = scoring_run.folder.report.read_text()
    finally:
        shutil.move(inbox, scoring_run.inbox)
    assert "data:image/jpeg" not in page
    assert "image-0001.jpeg" in page


def test_names_cannot_break_out_of_the_markdown_table(tmp_path: Path) -> None:
    scoring_run = ScoringRun(
        tmp_path, ScoreConfig(name="tiny", out=tmp_path / "scores"), "tiny", "3", "2026-01-01T00-00-00Z", 2
    )
    outcomes = [
        Outcome(
            "ward|`[x](y)`\n# 1", "held", n_scored=1200, n_quarantined=1, reasons={"empty": 1}, n_unlike_training=7
        ),
        Outcome("ward 2", "published", n_scored=34, other_files={"text": 2}),
    ]
    text = markdown(scoring_run, outcomes)
    lines = text.splitlines()
    assert lines[0] == "# tiny 3: 1,234 scored, 1 quarantined, 2 other files, 0 waiting, 1,201 held"
    assert lines[2] == "| batch |  | scored | unlike training | quarantined | other files | waiting | reasons |"
    assert lines[4] == r"| ward\|\`\[x\]\(y\)\`\\n\# 1 | held | 1200 | 7 | 1 | 0 | 0 | 1 × empty |"
    assert lines[5] == "| ward 2 | published | 34 | – | 0 | 2 | 0 |  |"
    assert lines[-1].endswith(DISCLAIMER)


def test_the_report_says_what_later_labels_say_of_the_version_that_scores(home: Path, tmp_path: Path) -> None:
    draw_inbox(tmp_path / "inbox", n_images=2, seed=2)
    draw_scores(tmp_path / "scores", [True, False] * 200, shift=6.0)
    (verdict,) = label_scores(home, tmp_path / "scores", flip=True).to_dict("records")
    assert verdict["verdict"] == "surely below"
    folders = {"out": tmp_path / "scores", "models": home / "models", "cache": home / "cache"}
    config = ScoreConfig(name="tiny", settle=0, device="cpu", precision="fp32", compile="off", **folders)
    scoring_run, outcomes = score_inbox(tmp_path / "inbox", config, lambda *_: [])
    page = scoring_run.folder.report.read_text()
    assert "Labels that came later: surely below" in page
    auc = format_estimate(verdict["roc_auc"], verdict["ci_low"], verdict["ci_high"], unit="%")
    assert f"ROC-AUC {auc}; the package promises {format_estimate(verdict['promised'])}% at least" in page
    assert re.findall(r"<tr><td>(all|\d+-W\d+)</td><td class=\"n\">(\d+)</td>", page) == [
        ("all", "400"),
        ("2026-W45", "400"),
    ]
    assert "Labels that came later: surely below, 400 images." in markdown(scoring_run, outcomes)


def test_the_report_has_a_row_for_each_of_three_classes(labelled_three: Path, tmp_path: Path) -> None:
    draw_inbox(tmp_path / "inbox", n_images=2, seed=2)
    shutil.copytree(labelled_three / "scores", tmp_path / "scores")
    folders = {"out": tmp_path / "scores", "models": labelled_three / "models", "cache": tmp_path / "cache"}
    config = ScoreConfig(name="three", settle=0, device="cpu", precision="fp32", compile="off", **folders)
    scoring_run, _ = score_inbox(tmp_path / "inbox", config, lambda *_: [])
    page = scoring_run.folder.report.read_text()
    verdicts = pd.read_parquet(tmp_path / "scores" / "_feedback" / "three" / "verdicts.parquet").set_index("class")
    together = verdicts.loc["macro"]
    assert f"Labels that came later: {together['verdict']}" in page
    auc = format_estimate(together["roc_auc"], together["ci_low"], together["ci_high"], unit="%")
    assert f"ROC-AUC {auc}, the mean over the classes" in page
    for name, row in verdicts.drop("macro").iterrows():
        assert re.search(f"<tr><td>{name}</td><td>{row['verdict']}.*{format_estimate(row['promised'])}", page)


def test_without_later_labels_the_report_is_silent_about_them(concluded: tuple[ScoringRun, list[Outcome]]) -> None:
    scoring_run, outcomes = concluded
    assert "Labels that came later" not in scoring_run.folder.report.read_text() + markdown(scoring_run, outcomes)
