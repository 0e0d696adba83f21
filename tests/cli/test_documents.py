"""What programs read: one JSON document on standard output, and nothing else there."""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr.cli import documents
from cxr.images.synthetic import draw_inbox
from tests.support.processes import BIN, run_to_the_end
from tests.support.scores import CLASSES, draw_scores, write_labels
from tests.support.verbs import VERBS

WITHOUT_TABLES = {
    *("sample", "train-fold", "report", "mlflow", "package", "package push", "package pull"),
    *("promote", "rollback", "release"),
    *("up", "deploy", "down", "app", "serve", "listen", "demo"),
}


def printed(*words: object) -> tuple[Any, str]:
    """The document that a verb prints, and what it writes to standard error."""
    ended = run_to_the_end([str(BIN / "cxr"), *map(str, words), "--json"], os.environ)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout), ended.stderr


@pytest.fixture
def place(home: Path, tmp_path: Path) -> Path:
    """A copy of a finished run and of the model made of it."""
    for name in ("experiments", "models"):
        shutil.copytree(home / name, tmp_path / name, copy_function=os.link)
    return tmp_path


def test_every_verb_that_prints_a_table_has_the_option() -> None:
    collections = {verb: VERBS[verb].assemble_argument_collection() for verb in VERBS}
    with_option = {verb for verb, collection in collections.items() if any(a.name == "--json" for a in collection)}
    assert with_option == VERBS.keys() - WITHOUT_TABLES


def test_an_evaluation_is_the_summary_in_fractions_and_its_log_goes_to_standard_error(place: Path) -> None:
    document, log = printed("evaluate", "run", "--device=cpu", f"--experiments={place / 'experiments'}")
    summary = pd.read_parquet(document["files"]["summary"]).set_index("metric")
    for row in document["metrics"]:
        for column in ("mean", "pooled", "ci_low", "ci_high"):
            expected = summary.loc[row["metric"], column]
            assert row[column] == (None if math.isnan(expected) else pytest.approx(expected, abs=1e-12))
    assert {row["metric"] for row in document["metrics"]} >= {"roc_auc", "sensitivity"}
    assert document["files"]["report"] is None
    assert "tables: " in log


def test_runs_and_models_are_arrays_of_rows_with_numbers_as_numbers(place: Path) -> None:
    (run,), _ = printed("runs", f"--experiments={place / 'experiments'}")
    (model,), _ = printed("models", f"--models={place / 'models'}")
    assert (run["run"], run["epochs"], run["folds"]) == ("run", 2, "2 of 2")
    assert (model["name"], model["champion"], model["size"]) == ("tiny", True, 64)
    assert model["roc_auc"] == run["roc_auc"] <= 1


def test_no_run_is_an_empty_array(place: Path) -> None:
    (place / "fresh").mkdir()
    assert printed("runs", f"--experiments={place / 'fresh'}") == ([], "")


def test_a_scoring_run_is_its_record(place: Path) -> None:
    draw_inbox(place / "inbox", n_images=4, seed=2)
    places = [f"--models={place / 'models'}", f"--cache={place / 'cache'}", f"--out={place / 'scores'}"]
    document, _ = printed("score", place / "inbox", "--name=tiny", "--settle=0", "--force", "--device=cpu", *places)
    record = json.loads(Path(document["files"]["record"]).read_text())
    assert document["batches"] == record["batches"]
    assert document["held"] == []


def test_feedback_is_what_was_entered_and_the_tables(home: Path, place: Path) -> None:
    draw_scores(place / "scores", [True, False] * 5)
    labels = {f"{number}.png": CLASSES[1 - number % 2] for number in range(10)}
    file = write_labels(place / "labels.csv", labels | {"nowhere.png": "NORMAL"})
    places = [f"--models={place / 'models'}", f"--cache={place / 'cache'}", f"--out={place / 'scores'}"]
    document, _ = printed("feedback", file, "--name=tiny", *places)
    counts = {"n_new": 10, "n_corrected": 0, "n_known": 0, "n_unmatched": 1, "n_left_out": 0}
    assert document["entered"] == counts
    (verdict,) = document["verdicts"]
    assert (verdict["verdict"], verdict["n_pairs"], verdict["below_since"]) == ("too few labels to tell", 5, None)
    assert {row["week"] for row in document["performance"]} == {None, "2026-W45"}
    assert all(Path(path).exists() for path in document["files"].values())


def test_presets_and_sets_keep_the_types_of_options() -> None:
    presets, _ = printed("presets")
    (epochs,) = [row for row in presets if row["option"] == "epochs"]
    assert epochs == {"option": "epochs", "quick": 5, "standard": 10, "best": 20}
    sets, _ = printed("sets")
    assert all(isinstance(row["options"]["labels"], list) for row in sets if "labels" in row["options"])


def test_a_machine_without_services_has_a_state_for_each(tmp_path: Path) -> None:
    document, _ = printed("status", f"--services={tmp_path}")
    assert [service["pid"] for service in document["services"]] == [None] * 4
    assert document["runs"] == []


def test_what_is_undefined_is_null_and_what_could_steer_a_terminal_is_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = pd.DataFrame({"name": ["a\x1b[2J\x9b", None], "n": [np.int64(3), 4], "auc": [math.nan, math.inf]})
    documents.write({"rows": table, "whole": pd.array([1, None], dtype="Int64").tolist()[0], "path": Path("a")})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {
        "rows": [{"name": "a\x1b[2J\x9b", "n": 3, "auc": None}, {"name": None, "n": 4, "auc": None}],
        "whole": 1,
        "path": "a",
    }
