"""Log a finished run to MLflow, with one nested run for each fold.

Nothing is logged while a run trains. MLflow gets what is in the run's folder, so a run can be logged at any later
time, and a store that cannot be reached never stops a training. Runs that were begun in the store and cannot be
finished are ended there as FAILED. Needs the extra `mlflow`.
"""

import importlib.util
import itertools
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr.errors import ConfigError, CxrError, RunError
from cxr.storage import verified
from cxr.storage.run_folder import FoldFolder
from cxr.training.run import Run, require_complete
from cxr.wording import visible

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

log = logging.getLogger(__name__)

EXPERIMENT = "cxr"
SQLITE = "sqlite:///"
MAX_CLASS = 150
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
        RunError: the run is not finished, or the store cannot be reached or refuses what it gets.
    """
    require_mlflow(uri)
    require_complete(run)
    try:
        return _log(run, uri)
    except CxrError:
        raise
    except Exception as error:  # MLflow lets those of SQLAlchemy, requests and the operating system through
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(
            f"run {run.folder.run_id!r} could not be logged to the MLflow store {uri!r} ({cause}): "
            "see to the store, and type the same command again."
        ) from error


def _log(run: Run, uri: str) -> str:
    client, experiment_id = _open(uri)
    identity = _identity(run)
    known = client.search_runs([experiment_id], f"tags.`{IDENTITY}` = '{identity}' AND attributes.status = 'FINISHED'")
    if known:
        log.info("MLflow has run %s already: %s", run.folder.run_id, known[0].info.run_id)
        return known[0].info.run_id
    record = verified.read_record(run.folder.config)
    tags = {IDENTITY: identity, "cxr.data": record["identity"]["data"], "cxr.weights": run.weights_hash}
    with _begun(client, experiment_id, run.folder.run_id, tags) as parent:
        client.log_batch(parent, metrics=_pooled(run), params=_params(run.config.as_dict()))
        for fold in range(run.config.folds):
            _log_fold(client, experiment_id, parent, run, fold)
        for artifact in _artifacts(run):
            with verified.local_copy(artifact) as file:
                client.log_artifact(parent, str(file))
    log.info("MLflow: run %s is %s in %s", run.folder.run_id, parent, uri)
    return parent


@contextmanager
def _begun(client: "MlflowClient", experiment_id: str, name: str, tags: Mapping[str, Any]) -> Iterator[str]:
    """Begin a run in the store and yield its id; when the block ends, the run is ended: FINISHED, or FAILED."""
    begun = client.create_run(experiment_id, run_name=visible(name), tags=dict(tags)).info.run_id
    try:
        yield begun
    except BaseException:
        with suppress(Exception):  # the store may be what has failed
            client.set_terminated(begun, status="FAILED")
        raise
    client.set_terminated(begun)


def _open(uri: str) -> tuple["MlflowClient", str]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 7, the default, are minutes without a word
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
    facts = {key: done[key] for key in ("fold", "device", "n_threads", "n_training_images", "seconds")}
    rows = verified.read_table(run.folder.metrics).query("scope == 'fold' and fold == @fold")
    name = f"{run.folder.run_id}, fold {fold}"
    with _begun(client, experiment_id, name, {"mlflow.parentRunId": parent}) as child:
        client.log_batch(child, metrics=[*_metrics(rows), *_epochs(folder)], params=_params(facts))
        with verified.local_copy(folder.predictions) as file:
            client.log_artifact(child, str(file))


def _pooled(run: Run) -> list["Metric"]:
    metrics = verified.read_table(run.folder.metrics)
    prefixes = {"pooled": "", "mean": "mean_of_folds_"}
    return [
        metric for scope, prefix in prefixes.items() for metric in _metrics(metrics[metrics["scope"] == scope], prefix)
    ]


def _metrics(rows: pd.DataFrame, prefix: str = "") -> Iterator["Metric"]:
    """Yield each defined metric and the bounds of its interval, with `/class` if the rows are of several classes."""
    has_several_classes = rows["class"].nunique(dropna=False) > 1
    names = class_keys(rows["class"].dropna().unique().tolist())
    for row in rows.dropna(subset="value").to_dict("records"):
        suffix = f"/{names[row['class']]}" if has_several_classes and pd.notna(row["class"]) else ""
        yield _metric(f"{prefix}{row['metric']}{suffix}", row["value"])
        for bound in ("ci_low", "ci_high"):
            if pd.notna(row[bound]):
                yield _metric(f"{prefix}{row['metric']}_{bound}{suffix}", row[bound])


def class_keys(classes: Sequence[str]) -> dict[str, str]:
    """Return for each class the last part of its metrics' names, which MLflow allows and no other class has.

    MLflow takes letters, digits and `_-. `, 250 characters in all, and no part `.` or `..`.
    """
    keys: dict[str, str] = {}
    for name in classes:
        plain = re.sub(r"[^\w. -]", "_", name)[:MAX_CLASS]
        plain = plain.replace(".", "_") if set(plain) == {"."} else plain
        candidates = itertools.chain([plain], (f"{plain} {number}" for number in itertools.count(2)))
        keys[name] = next(key for key in candidates if key not in keys.values())
    return keys


def _epochs(folder: FoldFolder) -> Iterator["Metric"]:
    for row in verified.read_table(folder.epochs).to_dict("records"):
        for name in ("training_loss", "learning_rate"):
            yield _metric(name, row[name], step=int(row["epoch"]))


def _metric(name: str, value: float, step: int = 0) -> "Metric":
    from mlflow.entities import Metric

    return Metric(name, float(value), int(time.time() * 1000), step)


def _params(values: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    plain = {name: Path(str(value)).name if name == "data" else value for name, value in values.items()}
    return [Param(name, visible(value)) for name, value in plain.items()]


def _artifacts(run: Run) -> list[Path]:
    folder = run.folder
    paths = [folder.config, folder.certificate, folder.report, *verified.files_in(folder.metrics.parent, ".parquet")]
    return [path for path in paths if verified.exists(path)]
