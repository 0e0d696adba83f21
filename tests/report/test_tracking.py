import shutil
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cxr.cli.app import app
from cxr.errors import ConfigError, RunError
from cxr.report.tracking import class_keys, log_run, require_mlflow
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, load_run
from tests.support.runs import Finished
from tests.support.shared import NewFolder


@pytest.fixture(scope="module")
def run(finished: Finished, new_folder: NewFolder) -> Run:
    place = new_folder("tracked")
    shutil.copytree(finished().folder.path, place / "run")
    return load_run(RunFolder(place / "run"))


def test_a_finished_run_is_a_run_with_a_nested_one_for_each_fold(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"
    app(["mlflow", str(run.folder.path), "--store", uri])
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("cxr")
    assert experiment is not None
    logged = client.search_runs([experiment.experiment_id])
    parents = [one for one in logged if "mlflow.parentRunId" not in one.data.tags]
    assert [one.info.run_name for one in parents] == ["run"]
    assert parents[0].info.run_id in capsys.readouterr().out
    metrics = files.read_table(run.folder.metrics).query("scope != 'fold'").set_index(["scope", "metric"])
    assert parents[0].data.metrics["roc_auc"] == metrics.loc[("pooled", "roc_auc"), "value"]
    assert parents[0].data.metrics["mean_of_folds_roc_auc"] == metrics.loc[("mean", "roc_auc"), "value"]
    assert parents[0].data.metrics["roc_auc_ci_low"] == metrics.loc[("pooled", "roc_auc"), "ci_low"]
    assert parents[0].data.params["epochs"] == str(run.config.epochs)
    assert parents[0].data.params["data"] == Path(run.config.data).name, "no path of this machine"
    kept = {artifact.path for artifact in client.list_artifacts(parents[0].info.run_id)}
    assert {"config.json", "predictions.parquet", "metrics.parquet", "leakage_certificate.json"} <= kept
    nested = [one for one in logged if one.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert sorted(one.data.params["fold"] for one in nested) == ["0", "1"]
    for one in nested:
        rows = files.read_table(run.folder.metrics).query(f"fold == {one.data.params['fold']}").set_index("metric")
        assert one.data.metrics["accuracy"] == rows.loc["accuracy", "value"]
        loss = client.get_metric_history(one.info.run_id, "training_loss")
        assert [point.step for point in loss] == list(range(1, run.config.epochs + 1))
    assert all(one.info.status == "FINISHED" for one in logged)
    app(["mlflow", str(run.folder.path), "--store", uri])
    assert len(client.search_runs([experiment.experiment_id])) == len(logged), "as it is, it is there already"


@pytest.mark.parametrize("uri", ["mlflow.db", "sqlite:///", "postgres://host"])
def test_what_is_no_store_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="the MLflow store must be sqlite:///FILE or the http address"):
        require_mlflow(uri)


def test_without_mlflow_the_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"pip install 'cxr\[mlflow\]'"):
        require_mlflow("sqlite:///mlflow.db")


CLASSES = [
    "COVID-19 (+)",
    "COVID-19 (-)",
    "COVID-19 [+]",
    "..",
    "...",
    "a/b//c",
    "x" * 255,
    "Neumonía",
    "NORMAL",
    "a\nb",
]


def test_every_class_has_metrics_of_its_own_under_a_name_that_mlflow_takes(tmp_path: Path) -> None:
    keys = class_keys(CLASSES)
    assert keys["COVID-19 (+)"] == "COVID-19 ___"
    assert (keys["Neumonía"], keys["NORMAL"]) == ("Neumonía", "NORMAL"), "good names stay"
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    logged = client.create_run(client.create_experiment("names")).info.run_id
    for number, key in enumerate(keys.values()):
        client.log_metric(logged, f"mean_of_folds_balanced_accuracy_ci_high/{key}", number)
    assert sorted(client.get_run(logged).data.metrics.values()) == list(range(len(CLASSES)))


def test_a_store_that_fails_ends_the_runs_it_has_begun_and_says_so_in_one_sentence(run: Run, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlartifacts").write_text("where the artifacts' folder belongs")
    with pytest.raises(RunError, match=r"run 'run' could not be logged to the MLflow store 'sqlite:///.*") as caught:
        log_run(run, uri)
    assert len(str(caught.value).splitlines()) == 1
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("cxr")
    assert experiment is not None
    begun = client.search_runs([experiment.experiment_id])
    assert [one.info.status for one in begun] == ["FAILED", "FAILED"]
    (tmp_path / "mlartifacts").unlink()
    log_run(run, uri)
    finished = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
    assert len(finished) == 3, "the same command works once the store does"


def test_a_store_that_does_not_answer_is_reported_in_one_sentence(run: Run) -> None:
    with pytest.raises(RunError, match=r"could not be logged to the MLflow store 'http://127\.0\.0\.1:1'"):
        log_run(run, "http://127.0.0.1:1")
