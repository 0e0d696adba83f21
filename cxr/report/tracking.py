"""Log a finished run to MLflow, with one nested run for each fold.

Nothing is logged while a run trains. MLflow gets what is in the run's folder, so a run can be logged at any later
time, and a store that cannot be reached never stops a training. Needs the extra `mlflow`.
"""

import importlib.util
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr.errors import ConfigError
from cxr.storage import verified
from cxr.storage.run_folder import FoldFolder
from cxr.training.run import Run, require_complete

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

log = logging.getLogger(__name__)

EXPERIMENT = "cxr"
SQLITE = "sqlite:///"
IDENTITY = "cxr.identity"
"""The tag that identifies a logged run: the hash of its config, data and weights, and when its last fold finished."""


def require_mlflow(uri: str) -> None:
    """Raise ConfigError unless MLflow is installed and `uri` is a store it can write to."""
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError("MLflow is not installed: pip install 'cxr[mlflow]'.")
    if not uri.startswith((SQLITE, "http://", "https://")) or uri == SQLITE:
        raise ConfigError(f"the MLflow store must be sqlite:///FILE or the http address of a server, got {uri!r}.")


def log_run(run: Run, uri: str) -> str:
    """Log a finished run with its parameters, metrics, tags and artifacts; return the id that MLflow gives it.

    A run that has not changed since it was logged is not logged again.

    Args:
        run: finished.
        uri: sqlite:///FILE (artifacts go to `mlartifacts` beside FILE), or the address of a server.

    Raises:
        ConfigError: MLflow is not installed, or `uri` is not a store.
        RunError: the run is not finished.
    """
    require_mlflow(uri)
    require_complete(run)
    client, experiment_id = _open(uri)
    identity = _identity(run)
    known = client.search_runs([experiment_id], f"tags.`{IDENTITY}` = '{identity}' AND attributes.status = 'FINISHED'")
    if known:
        log.info("MLflow has run %s already: %s", run.folder.run_id, known[0].info.run_id)
        return known[0].info.run_id
    record = verified.read_record(run.folder.config)
    tags = {IDENTITY: identity, "cxr.data": record["identity"]["data"], "cxr.weights": run.weights_hash}
    parent = client.create_run(experiment_id, run_name=run.folder.run_id, tags=tags).info.run_id
    client.log_batch(parent, metrics=_pooled(run), params=_params(run.config.as_dict()))
    for fold in range(run.config.folds):
        _log_fold(client, experiment_id, parent, run, fold)
    for artifact in _artifacts(run):
        with verified.local_copy(artifact) as file:
            client.log_artifact(parent, str(file))
    client.set_terminated(parent)
    log.info("MLflow: run %s is %s in %s", run.folder.run_id, parent, uri)
    return parent


def _open(uri: str) -> tuple["MlflowClient", str]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
    from mlflow import MlflowClient

    artifacts = None
    if uri.startswith(SQLITE):
        file = Path(uri.removeprefix(SQLITE)).resolve()
        file.parent.mkdir(parents=True, exist_ok=True)
        artifacts = (file.parent / "mlartifacts").as_uri()
    client = MlflowClient(uri)
    known = client.get_experiment_by_name(EXPERIMENT)
    return client, known.experiment_id if known else client.create_experiment(EXPERIMENT, artifact_location=artifacts)


def _identity(run: Run) -> str:
    finished = [verified.read_json(run.folder.fold(fold).complete)["finished_at"] for fold in range(run.config.folds)]
    return f"{run.config_hash} {max(finished)}"


def _log_fold(client: "MlflowClient", experiment_id: str, parent: str, run: Run, fold: int) -> None:
    folder = run.folder.fold(fold)
    done = verified.read_json(folder.complete)
    name = f"{run.folder.run_id}, fold {fold}"
    child = client.create_run(experiment_id, run_name=name, tags={"mlflow.parentRunId": parent}).info.run_id
    facts = {key: done[key] for key in ("fold", "device", "n_threads", "n_training_images", "seconds")}
    rows = verified.read_table(run.folder.metrics).query("scope == 'fold' and fold == @fold")
    client.log_batch(child, metrics=[*_metrics(rows), *_epochs(folder)], params=_params(facts))
    with verified.local_copy(folder.predictions) as file:
        client.log_artifact(child, str(file))
    client.set_terminated(child)


def _pooled(run: Run) -> list["Metric"]:
    metrics = verified.read_table(run.folder.metrics)
    prefixes = {"pooled": "", "mean": "mean_of_folds_"}
    return [
        metric for scope, prefix in prefixes.items() for metric in _metrics(metrics[metrics["scope"] == scope], prefix)
    ]


def _metrics(rows: pd.DataFrame, prefix: str = "") -> Iterator["Metric"]:
    """Yield each defined metric and the bounds of its interval, with `/class` if the rows are of several classes."""
    has_several_classes = rows["class"].nunique(dropna=False) > 1
    for row in rows.dropna(subset="value").to_dict("records"):
        suffix = f"/{row['class']}" if has_several_classes and pd.notna(row["class"]) else ""
        yield _metric(f"{prefix}{row['metric']}{suffix}", row["value"])
        for bound in ("ci_low", "ci_high"):
            if pd.notna(row[bound]):
                yield _metric(f"{prefix}{row['metric']}_{bound}{suffix}", row[bound])


def _epochs(folder: FoldFolder) -> Iterator["Metric"]:
    for row in verified.read_table(folder.epochs).to_dict("records"):
        for name in ("training_loss", "learning_rate"):
            yield _metric(name, row[name], step=int(row["epoch"]))


def _metric(name: str, value: float, step: int = 0) -> "Metric":
    from mlflow.entities import Metric

    return Metric(name, float(value), int(time.time() * 1000), step)


def _params(values: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(name, Path(str(value)).name if name == "data" else str(value)) for name, value in values.items()]


def _artifacts(run: Run) -> list[Path]:
    folder = run.folder
    paths = [folder.config, folder.certificate, folder.report, *verified.files_in(folder.metrics.parent, ".parquet")]
    return [path for path in paths if verified.exists(path)]
