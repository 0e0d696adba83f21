import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.classes import Classes
from cxr.images.inbox import Batch
from cxr.images.synthetic import draw_inbox
from cxr.metrics import drift
from cxr.pipeline import score_inbox
from cxr.serving.registry import load_champion
from cxr.serving.scoring.outcome import Decision, Outcome, decide, headline_probability, totals
from cxr.serving.scoring.scores import scores_table
from cxr.storage import files
from cxr.storage.scores_folder import ScoresFolder
from cxr.verdict import Severity, Verdict
from tests.serving.scoring.test_scores import ok_row, refused_row
from tests.serving.scoring.test_scoring_runs import config
from tests.support.faults import watching

TWO = Classes(("NORMAL", "PNEUMONIA"))
THREE = Classes(("bacteria", "normal", "virus"))


def verdict(highest_failed: Severity | None) -> Verdict:
    return Verdict("scores", "file", highest_failed, [])


@pytest.mark.parametrize(
    ("failed", "force", "decision"),
    [
        ([], False, "published"),
        ([None, "warning"], False, "published"),
        ([None, "critical"], False, "held"),
        (["critical", "warning"], True, "published by force"),
        ([None, "info"], True, "published"),
    ],
)
def test_a_critical_verdict_holds_a_batch_unless_it_is_forced(
    failed: list[Severity | None], force: bool, decision: Decision
) -> None:
    assert decide([verdict(severity) for severity in failed], force=force) == decision


def test_the_headline_is_the_positive_class_or_the_likeliest_of_more() -> None:
    images = pd.DataFrame({"probability_NORMAL": [0.9, 0.3], "probability_PNEUMONIA": [0.1, 0.7]})
    assert headline_probability(images, TWO).tolist() == [0.1, 0.7]
    columns = {"bacteria": [0.2, 0.6], "normal": [0.5, 0.3], "virus": [0.3, 0.1]}
    images = pd.DataFrame({f"probability_{name}": values for name, values in columns.items()})
    assert headline_probability(images, THREE).tolist() == [0.5, 0.6]


@pytest.fixture
def outcome(home: Path) -> Outcome:
    """The outcome of 20 images and 2 refused files, made by hand."""
    package = load_champion(home / "models", "tiny")
    probability = np.linspace(0, 1, 20)
    rows: list[dict[str, object]] = [
        ok_row(
            f"{k:02}.png",
            probability_NORMAL=1 - p,
            probability_PNEUMONIA=p,
            predicted_label="PNEUMONIA" if p >= 0.5 else "NORMAL",
            fold_spread=k % 7,
            in_training=k < 3,
            novelty=float(k),
            unlike_training=k in (4, 9),
            mean=100.0,
        )
        for k, p in enumerate(probability)
    ]
    others = [refused_row(f"{k}.csv") | {"reason": "other_file", "detail": "text"} for k in range(3)]
    table = scores_table([*rows, refused_row("a.txt"), *others, refused_row("b.txt")], package.classes)
    compared = drift.compare(table[table["status"] == "ok"], package.images(), package.classes)
    batch = Batch("ward", [], n_waiting=4, left_aside={".DS_Store": 1})
    return Outcome.of(batch, package, table, compared, [verdict("warning")], "published")


def test_an_outcome_counts_the_files_of_a_batch(outcome: Outcome) -> None:
    assert (outcome.batch, outcome.decision) == ("ward", "published")
    assert (outcome.n_scored, outcome.n_quarantined, outcome.n_waiting) == (20, 2, 4)
    assert outcome.left_aside == {".DS_Store": 1}
    assert (outcome.other_files, outcome.n_other_files) == ({"text": 3}, 3)
    assert outcome.reasons == {"not_an_image": 2}
    assert outcome.predicted == {"PNEUMONIA": 10, "NORMAL": 10}
    assert outcome.n_in_training == 3
    assert [row["path"] for row in outcome.quarantined] == ["a.txt", "b.txt"]


def test_an_outcome_sums_up_the_probabilities(outcome: Outcome) -> None:
    probability = np.linspace(0, 1, 20)
    assert outcome.histogram == [1] * 20
    assert outcome.estimated_accuracy == pytest.approx(np.maximum(probability, 1 - probability).mean())
    assert {row["statistic"] for row in outcome.drift} >= {"novelty", "probability_PNEUMONIA"}


def test_an_outcome_names_the_images_worth_a_second_look_none_of_which_is_unlike_the_training_images(
    outcome: Outcome, home: Path
) -> None:
    threshold = load_champion(home / "models", "tiny").threshold
    assert (outcome.probability_of, outcome.threshold) == ("PNEUMONIA", threshold)
    assert not {"04.png", "09.png"} & {row["path"] for row in (*outcome.nearest, *outcome.disagreeing)}
    distances = [abs(row["probability"] - threshold) for row in outcome.nearest]
    assert distances == sorted(distances)
    assert len(outcome.nearest) == len(outcome.disagreeing) == 12
    assert [row["path"] for row in outcome.disagreeing[:3]] == ["06.png", "13.png", "05.png"]


def test_an_outcome_names_the_images_unlike_the_training_images_the_most_novel_first(outcome: Outcome) -> None:
    assert outcome.n_unlike_training == 2
    assert [(row["path"], row["novelty"]) for row in outcome.unlike_training] == [("09.png", 9), ("04.png", 4)]


def test_an_outcome_leaves_open_what_is_unlike_if_the_package_has_no_limit(home: Path) -> None:
    package = load_champion(home / "models", "tiny")
    old = dataclasses.replace(package, facts={key: v for key, v in package.facts.items() if key != "novelty"})
    table = scores_table([ok_row(mean=100.0, unlike_training=None)], package.classes)
    compared = drift.compare(table, package.images(), package.classes)
    outcome = Outcome.of(Batch("ward", [], 0, {}), old, table, compared, [], "published")
    assert (outcome.n_unlike_training, outcome.unlike_training) == (None, [])


def test_an_outcome_counts_referred_images_by_why_they_are_and_names_their_answers(home: Path) -> None:
    package = load_champion(home / "models", "tiny")
    refer = {"level": 0.1, "thresholds": dict.fromkeys(package.classes, 0.5)}
    referring = dataclasses.replace(package, facts=package.facts | {"refer": refer})
    sets = [("refer", ""), ("refer", "NORMAL|PNEUMONIA"), ("refer", ""), ("NORMAL", "NORMAL")]
    rows = [ok_row(f"{k}.png", mean=100.0, answer=one, prediction_set=of) for k, (one, of) in enumerate(sets)]
    table = scores_table(rows, package.classes)
    compared = drift.compare(table, package.images(), package.classes)
    by_package = [
        Outcome.of(Batch("ward", [], 0, {}), one, table, compared, [], "published") for one in (referring, package)
    ]
    assert [outcome.n_referred for outcome in by_package] == [{"fits none": 2, "fits several": 1}, None]
    assert sorted((row["answer"], row["prediction_set"]) for row in by_package[0].nearest) == sorted(sets)


def test_images_in_held_batches_are_counted_as_held() -> None:
    outcomes = [
        Outcome("a", "published", n_scored=5, n_quarantined=1, n_waiting=2, other_files={"text": 4}),
        Outcome("b", "held", n_scored=7, n_quarantined=2, other_files={"text": 1, "PDF document": 2}),
        Outcome("c", "nothing new", n_waiting=3),
    ]
    assert totals(outcomes) == {"scored": 12, "quarantined": 3, "other files": 7, "waiting": 5, "held": 12}


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Two batches."""
    draw_inbox(tmp_path / "inbox", n_images=4, seed=11)
    (tmp_path / "inbox" / "ward-9").mkdir()
    (next((tmp_path / "inbox").glob("*/image-*.jpeg"))).rename(tmp_path / "inbox" / "ward-9" / "image.jpeg")
    return tmp_path / "inbox"


def test_a_batch_is_checked_before_it_is_published_or_held_and_only_once(
    home: Path, inbox: Path, tmp_path: Path
) -> None:
    out = ScoresFolder.at(tmp_path / "scores")
    checked: list[str] = []

    def hold_ward_9(rows: pd.DataFrame, compared: pd.DataFrame, classes: Classes, version: str) -> list[Verdict]:
        (batch,) = rows["batch"].unique()
        assert out.published(batch).parts() == []
        assert (classes, version) == (TWO, "1")
        assert compared.columns.tolist() == drift.COLUMNS
        checked.append(batch)
        return [verdict("critical" if batch == "ward-9" else None)]

    options = config(home, tmp_path / "scores")
    run, outcomes = score_inbox(inbox, options, hold_ward_9)
    decisions = {outcome.batch: outcome.decision for outcome in outcomes}
    assert sorted(checked) == sorted(decisions)
    assert decisions == {"ward-3": "published", "ward-9": "held"}
    assert [folder.path for folder in out.all_held()] == [out.held("tiny", "1", "ward-9").path]
    record = files.read_record(run.folder.record)
    assert record["held"] == {"ward-9": 1}
    assert (record["ended"], record["error"]) == ("done", None)
    assert {batch["batch"]: batch["decision"] for batch in record["batches"]} == decisions
    _, outcomes = score_inbox(inbox, options, hold_ward_9)
    assert {outcome.decision for outcome in outcomes} == {"nothing new"}


def test_a_scoring_run_that_dies_leaves_the_record_of_the_batches_before(
    home: Path, inbox: Path, tmp_path: Path
) -> None:
    def die_at_the_second(rows: pd.DataFrame, *_: object) -> list[Verdict]:
        if rows["batch"].iloc[0] == "ward-9":
            raise KeyboardInterrupt
        return []

    with pytest.raises(KeyboardInterrupt):
        score_inbox(inbox, config(home, tmp_path / "scores"), die_at_the_second)
    (run,) = ScoresFolder.at(tmp_path / "scores").scoring_runs()
    record = files.read_record(run.record)
    assert [(batch["batch"], batch["decision"]) for batch in record["batches"]] == [("ward-3", "published")]
    assert (record["ended"], record["error"]) == ("stopped", "KeyboardInterrupt")
    assert not run.report.exists()


def test_a_batch_is_on_record_before_it_is_published(home: Path, inbox: Path, tmp_path: Path) -> None:
    out = ScoresFolder.at(tmp_path / "scores")
    decisions: list[dict[str, str]] = []

    def watch(event: str, path: str) -> None:
        if event == "os.rename" and Path(path).name.startswith("part-"):
            (run,) = out.scoring_runs()
            batches = files.read_record(run.record)["batches"]
            decisions.append({batch["batch"]: batch["decision"] for batch in batches})

    with watching(watch):
        score_inbox(inbox, config(home, tmp_path / "scores"), lambda *_: [])
    assert decisions == [{"ward-3": "published"}, {"ward-3": "published", "ward-9": "published"}]
