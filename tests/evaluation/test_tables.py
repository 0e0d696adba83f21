import math
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from cxr.classes import Classes
from cxr.cli import run_results
from cxr.errors import RunError
from cxr.evaluation.overview import STARTING_PROJECT, headline, list_runs
from cxr.evaluation.tables import estimates_by_class, evaluate, metrics_table, summary_table
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.predictions import predict_fold
from cxr.training.run import Run, load_run
from cxr.training.trainer import train_fold
from tests.support.predictions import CLASSES, metrics_by_scikit_learn, simulate
from tests.support.runs import Finished

Begin = Callable[..., Run]


def finish(run: Run) -> Run:
    for fold in range(run.config.folds):
        train_fold(run, fold, "cpu")
    evaluate(run)
    return run


def copied(run: Run, place: Path) -> Run:
    """Return a copy of a run that may be written into."""
    return load_run(RunFolder(Path(shutil.copytree(run.folder.path, place))))


def by_scikit_learn(images: pd.DataFrame) -> dict[str, float]:
    return metrics_by_scikit_learn(
        (images["label"] == "PNEUMONIA").to_numpy(), images["probability_PNEUMONIA"].to_numpy()
    )


def test_every_value_is_what_scikit_learn_computes_from_the_out_of_fold_table(finished: Finished) -> None:
    run = finished()
    predictions = pd.read_parquet(run.folder.predictions)
    assert predictions["path"].tolist() == run.images()["path"].tolist()
    metrics = pd.read_parquet(run.folder.metrics)
    assert metrics.columns.tolist() == ["scope", "fold", "class", "metric", "value", "ci_low", "ci_high", "n", "reason"]
    for scope, fold in (("fold", 0), ("fold", 1), ("pooled", None)):
        images = predictions if fold is None else predictions[predictions["fold"] == fold]
        rows = metrics[
            (metrics["scope"] == scope) & (metrics["fold"].isna() if fold is None else metrics["fold"] == fold)
        ]
        assert rows["n"].eq(len(images)).all()
        values = rows.set_index("metric")["value"].to_dict()
        expected = by_scikit_learn(images)
        assert values.keys() == expected.keys()
        for name, value in expected.items():
            assert values[name] == pytest.approx(value, abs=1e-9, nan_ok=True), (scope, fold, name)
    summary = pd.read_parquet(run.folder.summary).set_index("metric")
    aucs = metrics.query("scope == 'fold' and metric == 'roc_auc'")["value"]
    assert summary.loc["roc_auc", ["mean", "sd"]].tolist() == pytest.approx([aucs.mean(), aucs.std(ddof=1)])
    assert pd.read_parquet(run.folder.confusion)["n"].sum() == len(predictions)
    query = f"SELECT pooled FROM '{run.folder.summary}' WHERE metric = 'accuracy'"  # noqa: S608
    assert duckdb.sql(query).fetchall() == [(summary.loc["accuracy", "pooled"],)]


def test_evaluating_again_gives_the_same_tables_without_training(finished: Finished, tmp_path: Path) -> None:
    run = copied(finished(), tmp_path / "run")
    tables = [run.folder.predictions, run.folder.metrics, run.folder.summary, run.folder.confusion]
    before = [pd.read_parquet(path) for path in tables]
    shutil.rmtree(run.folder.predictions.parent)
    for fold in range(2):
        run.folder.fold(fold).predictions.unlink()
        predict_fold(run, fold, "cpu")
    evaluate(run)
    for path, table in zip(tables, before, strict=True):
        pd.testing.assert_frame_equal(pd.read_parquet(path), table)


def test_runs_are_listed_with_their_metrics_and_what_is_done(
    finished: Finished, begin: Begin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done, begun = copied(finished(), tmp_path / "experiments" / "banana"), begin("begun")
    table = list_runs(done.folder.path.parent).set_index("run")
    assert table["folds"].to_dict() == {"banana": "2 of 2", "begun": "0 of 2"}
    pooled = headline(done.folder).set_index("metric")["pooled"]
    assert table.loc["banana", "roc_auc"] == pooled["roc_auc"]
    assert table.loc["begun", list(STARTING_PROJECT)].isna().all()
    assert table.loc["begun", "images"] == len(begun.images())
    run_results.show_runs(table.reset_index())
    shown = capsys.readouterr().out
    assert "banana" in shown
    assert f"{pooled['roc_auc']:.1f}" in shown
    assert list_runs(done.folder.path / "none").empty
    verified.write_table(done.folder.summary, pd.read_parquet(done.folder.summary).drop(columns="mean_ci_low"))
    older = headline(done.folder).set_index("metric")
    assert older["mean_ci_low"].isna().all(), "a run made before the column was added is listed nevertheless"
    pd.testing.assert_series_equal(older["pooled"], pooled)


def test_three_classes_from_subtypes_work_through_the_whole_pipeline(finished: Finished) -> None:
    run = finished(label_from="subtype")
    assert run.classes == ("NORMAL", "bacteria", "virus")
    predictions, metrics = pd.read_parquet(run.folder.predictions), pd.read_parquet(run.folder.metrics)
    probability = predictions[[f"probability_{name}" for name in run.classes]].to_numpy()
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-12)
    pooled = metrics[metrics["scope"] == "pooled"]
    assert set(pooled["class"].dropna()) == {"NORMAL", "bacteria", "virus", "macro"}
    overall = pooled[pooled["class"].isna()].set_index("metric")["value"]
    predicted = np.array(run.classes)[probability.argmax(axis=1)]
    assert overall["accuracy"] == pytest.approx(sk.accuracy_score(predictions["label"], predicted), abs=1e-9)
    macro = pooled[pooled["class"] == "macro"].set_index("metric")["value"]
    expected = sk.roc_auc_score(predictions["label"], probability, multi_class="ovr", labels=run.classes)
    assert macro["roc_auc"] == pytest.approx(expected, abs=1e-9)
    assert headline(run.folder)["starting_project"].isna().all()


def test_four_classes_from_folders_work_through_the_whole_pipeline(begin: Begin, image, tree) -> None:
    names = ("COVID", "NORMAL", "OPACITY", "VIRAL")
    data = tree(
        {f"{name}/{n}.png": image(10 * k + n, (40, 40), "PNG") for k, name in enumerate(names) for n in range(4)}
    )
    run = finish(begin(data=str(data), batch_size=4))
    assert run.classes == names
    assert len(pd.read_parquet(run.folder.predictions)) == 16
    assert pd.read_parquet(run.folder.confusion)["n"].sum() == 16


def test_a_mean_over_folds_is_nan_where_a_fold_is(tmp_path: Path) -> None:
    predictions = pd.DataFrame(
        {
            "fold": [0, 0, 1, 1],
            "group_id": list("abcd"),
            "label": ["N", "P", "P", "P"],
            "probability_N": [0.9, 0.2, 0.4, 0.6],
            "probability_P": [0.1, 0.8, 0.6, 0.4],
        }
    )
    metrics = metrics_table(predictions, Classes("NP"))
    in_fold_1 = metrics.query("fold == 1").set_index("metric")
    assert math.isnan(in_fold_1.loc["roc_auc", "value"])
    assert in_fold_1.loc["roc_auc", "reason"] == "no image of another class"
    summary = summary_table(metrics).set_index("metric")
    assert math.isnan(summary.loc["roc_auc", "mean"])
    assert summary.loc["roc_auc", "pooled"] == 1.0
    assert summary.loc["sensitivity", "mean"] == pytest.approx((1.0 + 0.5) / 2)
    mean = metrics.query("scope == 'mean'").set_index("metric")
    assert mean.loc["roc_auc", "reason"] == "fold 1: no image of another class"
    assert mean.loc["roc_auc", ["value", "ci_low", "ci_high"]].isna().all()
    assert mean.loc["sensitivity", "value"] == summary.loc["sensitivity", "mean"]


def test_the_mean_of_folds_and_the_pooled_value_have_intervals_from_the_same_replicates() -> None:
    images = simulate(300, n_folds=3)
    predictions = images.predictions.assign(
        **{f"probability_{c}": images.probability[:, k] for k, c in enumerate(CLASSES)}
    )
    metrics = metrics_table(predictions, CLASSES)
    drawn, means = images.drawn, []
    for number in range(0, 2000, 40):
        rows = np.repeat(np.arange(300), drawn[number, images.group].astype(int))
        parts = [rows[images.fold[rows] == k] for k in range(3)]
        means.append(np.mean([sk.roc_auc_score(images.target[part], images.probability[part, 1]) for part in parts]))
    table = metrics.query("metric == 'roc_auc'").set_index("scope")
    low, high = np.percentile(means, [2.5, 97.5])
    width = table.loc["mean", "ci_high"] - table.loc["mean", "ci_low"]
    assert table.loc["mean", ["ci_low", "ci_high"]].tolist() == pytest.approx([low, high], abs=0.2 * width)
    pooled = estimates_by_class(predictions, CLASSES, images.replicates)["PNEUMONIA"].replicates["roc_auc"]
    bounds = np.percentile(pooled, [2.5, 97.5])
    assert table.loc["pooled", ["ci_low", "ci_high"]].tolist() == pytest.approx(bounds.tolist())


def test_an_unfinished_run_says_which_folds_are_lacking(begin: Begin) -> None:
    run = begin()
    train_fold(run, 0, "cpu")
    with pytest.raises(
        RunError, match="run 'run' lacks fold 1: type the run's `cxr train` again, or `cxr train-fold run 1`"
    ):
        evaluate(run)
    assert not run.folder.predictions.exists()
    assert files.read_json(run.folder.fold(0).complete)["n_training_images"] == (run.images()["fold"] != 0).sum()
