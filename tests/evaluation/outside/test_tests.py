import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.report_numbers import disagreements
from cxr.cli.app import app
from cxr.errors import ConfigError, DataError, RunError
from cxr.evaluation.outside.tests import evaluate_external, is_current, open_held_out_test
from cxr.images.synthetic import draw_images
from cxr.labelling import Labelling
from cxr.report.run.outside import openings
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, load_run
from tests.support.runs import Finished


@pytest.fixture
def run(finished: Finished, tmp_path: Path) -> Run:
    """A copy of a finished run with the split `test` held out, to write into."""
    made = finished(holdout="test")
    shutil.copytree(made.folder.path, tmp_path / "experiments" / "holdout")
    return load_run(RunFolder(tmp_path / "experiments" / "holdout"))


def test_results_of_weights_that_were_replaced_are_out_of_date(run: Run) -> None:
    folder = open_held_out_test(run)
    assert is_current(run, folder)
    with verified.replacing(run.folder.fold(1).weights) as temporary:
        shutil.copy(run.folder.fold(0).weights, temporary)
    assert not is_current(run, folder)
    open_held_out_test(run)
    assert openings(run, folder, run.classes)["n_ensembles"] == 2


def test_the_report_sets_the_test_beside_cross_validation(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--experiments", str(run.folder.path.parent)]
    app(["report", "holdout", *where])
    assert "cxr report holdout --open-test" in re.sub(r"<[^>]+>", "", run.folder.report.read_text())
    app(["report", "holdout", "--open-test", *where])
    text = run.folder.report.read_text()
    assert "Gap in specificity" in text
    inside = files.read_table(run.folder.table("operating_points")).set_index(["operating_point", "metric"])
    outside = files.read_table(run.folder.held_out_test.metrics).set_index(["operating_point", "metric"])
    gap = outside.loc[("youden", "specificity"), "value"] - inside.loc[("youden", "specificity"), "value"]
    plain = re.sub(r"<[^>]+>", "", text)
    assert f"{100 * gap:+.1f} at Youden" in plain
    assert disagreements(run.folder.path)[1] == []
    values = files.read_table(run.folder.held_out_test.gap).set_index(["operating_point", "metric"])
    assert values.loc[("youden", "specificity"), "gap"] == pytest.approx(gap)
    assert str(run.folder.report) in capsys.readouterr().out


def test_a_run_without_a_held_out_test_set_cannot_open_one(finished: Finished) -> None:
    with pytest.raises(RunError, match="--holdout test"):
        open_held_out_test(finished())


def test_an_external_test_leaves_out_the_images_that_the_run_was_made_from(run: Run, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    draw_images(outside, n_images=40, seed=99)
    root = next(outside.rglob("NORMAL")).parent
    known = run.images().query("label == 'NORMAL'")["path"].iloc[0]
    source = next(path for path in Path(run.config.data).rglob(Path(known).name))
    with Image.open(source) as image:
        image.save(root / "NORMAL" / "again.jpeg", quality=60)  # other bytes, the same image
    folder = evaluate_external(run, str(outside))
    opening = files.read_json(folder.openings)["openings"][0]
    assert opening["left_out"]["in_training"] == 1
    predictions = files.read_table(folder.predictions)
    assert not predictions["path"].str.contains("again").any()
    assert len(predictions) == opening["n_images"]


def test_an_external_test_set_of_known_images_or_of_other_classes_is_refused(run: Run, tmp_path: Path) -> None:
    known = tmp_path / "known"
    for row in run.images().groupby("label").head(3).itertuples():
        target = known / str(row.label) / Path(str(row.path)).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(next(Path(run.config.data).rglob(target.name)), target)
    with pytest.raises(DataError, match="were used to make run"):
        evaluate_external(run, str(known))
    (known / "NORMAL").rename(known / "HEALTHY")
    with pytest.raises(DataError, match="needs the run's classes NORMAL, PNEUMONIA"):
        evaluate_external(run, str(known))


def test_three_classes_are_evaluated_by_the_most_probable_one(finished: Finished, tmp_path: Path) -> None:
    made = finished(label_from="subtype", holdout="test")
    shutil.copytree(made.folder.path, tmp_path / "three")
    run = load_run(RunFolder(tmp_path / "three"))
    folder = open_held_out_test(run)
    predictions, metrics = files.read_table(folder.predictions), files.read_table(folder.metrics)
    predicted = predictions[[f"probability_{name}" for name in run.classes]].to_numpy().argmax(axis=1)
    accuracy = (np.asarray(run.classes)[predicted] == predictions["label"]).mean()
    row = metrics[(metrics["metric"] == "accuracy") & metrics["class"].isna()].iloc[0]
    assert row["value"] == pytest.approx(accuracy)
    app(["report", "three", "--experiments", str(tmp_path)])
    assert "Split test of the archive" in run.folder.report.read_text()
    assert disagreements(run.folder.path)[1] == []


def test_an_external_test_set_may_have_its_labels_in_a_table(run: Run, elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    rows = []
    for image in sorted(elsewhere.rglob("*.jpeg")):
        shutil.copy(image, tmp_path / "site" / image.name)
        rows.append(f"{image.name},{int(image.parent.name == 'PNEUMONIA')},{image.name[:12]}")
    (tmp_path / "site" / "labels.csv").write_text("\n".join(["file,Target,patient", *rows]))
    meaning = ("Target:1=PNEUMONIA", "Target:0=NORMAL")
    labelling = Labelling(labels=("labels.csv",), label_column="Target", value=meaning, patient_column="patient")
    by_table = files.read_table(evaluate_external(run, str(tmp_path / "site"), labelling).predictions)
    by_folder = files.read_table(evaluate_external(run, str(elsewhere)).predictions)
    columns = ["image_id", "label", "probability_PNEUMONIA"]
    one, other = (table[columns].sort_values("image_id", ignore_index=True) for table in (by_table, by_folder))
    pd.testing.assert_frame_equal(one, other)
    assert by_table["group_id"].str.startswith("table-").all()
    few = [rows[k] for k in (0, 1, -2, -1)]
    (tmp_path / "site" / "few.csv").write_text(
        "\n".join(["file,Target,patient", *(f"{r.rpartition(',')[0]},one" for r in few)])
    )
    of_one = evaluate_external(run, str(tmp_path / "site"), replace(labelling, labels=("few.csv",)))
    assert files.read_table(of_one.predictions)["group_id"].nunique() == 1, "a test set needs no patient for each fold"
    with pytest.raises(ConfigError, match="one of the classes '0' and '1', got 'PNEUMONIA'"):
        evaluate_external(run, str(tmp_path / "site"), replace(labelling, value=("Target:1=1",)))


def test_tables_of_labels_belong_to_an_external_test_set(run: Run) -> None:
    with pytest.raises(ConfigError, match="--labels is for an external test set: give it with --external DATA"):
        app(["report", run.folder.run_id, "--labels=x.csv", f"--experiments={run.folder.path.parent}"])
