"""Train-cv: from a folder of chest X-rays to out-of-fold tables and a report."""

from pathlib import Path

from prefect import flow

from cxr.config import Execution, TrainConfig
from cxr.report.tracking import require_mlflow
from cxr.storage.events import stage
from cxr.storage.files import locked, require_local
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import require_startable
from data_checks.tolerances import Checking, Tolerances
from flows.parameters import flat_parameters
from flows.run_names import run_name
from tasks.checks import check_data, check_results
from tasks.dataset import examine_images
from tasks.evaluation import evaluate_folds
from tasks.report import log_to_mlflow, write_report
from tasks.training import begin_run, extract_features, require_runner, train_folds


@flow(name="train-cv", flow_run_name=run_name)
@flat_parameters
def train_cv(config: TrainConfig, execution: Execution, checks: Checking) -> Path:
    """Cross-validate a ResNet-50 on a folder of chest X-rays; return the run's folder."""
    limit = Tolerances.of(checks.tolerances)
    folder = RunFolder.named(execution.experiments, execution.run_id or config.default_run_id)
    if checks.data_docs:
        require_local("--data-docs", folder.checks)
    with locked(folder.lock, f"run {folder.run_id}"), stage(folder.events, "run"):
        start = require_startable(config, folder, execution)
        require_runner(execution)
        if execution.mlflow:
            require_mlflow(execution.mlflow)
        folder = examine_images(config, folder, execution.cache, config.size)
        if not folder.has_begun:
            folder = check_data(folder, config, limit, checks.data_docs)
        run = begin_run(config, folder, execution, start)
        if execution.runner != "ray":  # on a cluster each node fills its own cache
            run = extract_features(run)
        trained = train_folds(run, execution)
        run = evaluate_folds(run, wait_for=trained)
        run = check_results(run, limit)
        run = write_report(run)
        if execution.mlflow:
            log_to_mlflow(run, execution.mlflow)
    return folder.path
