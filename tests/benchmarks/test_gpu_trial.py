import json
from pathlib import Path

import pytest

from benchmarks.gpu_trial import STAGES, Trial, run_stages
from tests.support.shared import NewFolder


@pytest.fixture(scope="module")
def trial(sample: Path, new_folder: NewFolder) -> Trial:
    """The trial as it runs without a GPU: on the CPU, small."""
    out = new_folder("trial")
    trial = Trial(str(sample), out, "cpu", small=True, seconds=600, open_test=False)
    assert run_stages(trial) == []
    return trial


def figures(trial: Trial, stage: str) -> dict:
    return json.loads((trial.out / f"{stage}.json").read_text())


def test_every_stage_ends_well_and_leaves_its_figures(trial: Trial) -> None:
    assert {path.stem for path in trial.out.glob("*.json")} == {"machine", *STAGES}
    assert all(figures(trial, stage)["ended"] == 0 for stage in STAGES)


def test_the_figures_of_an_earlier_trial_do_not_pass_for_new_ones(tmp_path: Path) -> None:
    trial = Trial("anything", tmp_path, "cpu", small=True, seconds=600, open_test=False)
    trial.home.mkdir()
    with pytest.raises(SystemExit, match="holds an earlier trial"):
        run_stages(trial)


def test_the_tests_of_the_device_pass(trial: Trial) -> None:
    outcomes = figures(trial, "tests")["tests"]
    assert sum(line.startswith("PASSED") for line in outcomes) == 8
    assert not any(line.startswith(("FAILED", "ERROR")) for line in outcomes)


def test_training_is_measured_alone_and_side_by_side(trial: Trial) -> None:
    measured = figures(trial, "training")
    for name in ("random batches", "a fold", "2 folds side by side"):
        assert measured[name] > 0
    assert measured["a fold / random batches"] == pytest.approx(
        measured["a fold"] / measured["random batches"], abs=1e-3
    )


def test_cross_validation_gives_all_metrics_and_opens_no_test_set(trial: Trial) -> None:
    found = figures(trial, "cross-validation")
    assert {"roc_auc", "sensitivity", "specificity", "f1"} <= {row["metric"] for row in found["metrics, %"]}
    assert "held-out test set" not in found
    assert not list(trial.home.rglob("held_out_test"))


def test_scoring_and_the_frozen_trunk_are_measured(trial: Trial) -> None:
    assert {name.partition(",")[0] for name in figures(trial, "scoring")} >= {
        "decoded by 2 processes",
        "networks alone: 1",
        "a whole scoring run",
    }
    assert figures(trial, "frozen-trunk")["features, images/s"] > 0
