"""Train-CV: from a folder of chest X-rays to out-of-fold tables."""

from pathlib import Path

from prefect import flow

from cxr.config import (
    KAGGLE_PATIENT,
    Compile,
    Execution,
    FoldsPerDevice,
    LabelFrom,
    Precision,
    Runner,
    Trainable,
    TrainConfig,
)
from cxr.report.tracking import require_mlflow
from cxr.storage.events import stage
from cxr.storage.files import locked, require_local
from cxr.storage.run_folder import RunFolder
from cxr.training.run import require_startable
from data_checks.tolerances import Checking, Tolerances
from flows.parameters import described_by
from tasks.checks import check_data, check_results
from tasks.dataset import examine_images
from tasks.evaluation import evaluate_folds
from tasks.report import log_to_mlflow, write_report
from tasks.training import begin_run, extract_features, require_runner, train_folds


@flow(name="train-cv")
@described_by(TrainConfig, Execution, Checking)
def train_cv(
    data: str,
    folds: int = 5,
    seed: int = 0,
    label_from: LabelFrom = "folder",
    positive: str | None = None,
    holdout: str | None = None,
    patient_pattern: str = KAGGLE_PATIENT,
    weights: str = "imagenet-v1",
    trainable: Trainable = "head",
    size: int = 224,
    epochs: int = 10,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    augment: bool = True,
    views: int = 1,
    flip: bool = False,
    precision: Precision = "auto",
    deterministic: bool = False,
    run_id: str | None = None,
    experiments: Path = Path("experiments"),
    cache: Path = Path("cache"),
    runner: Runner = "local",
    devices: str = "auto",
    folds_per_device: FoldsPerDevice = "auto",
    redo_fold: tuple[int, ...] = (),
    compile: Compile = "auto",
    mlflow: str | None = None,
    ray_address: str | None = None,
    gpus_per_fold: float = 1.0,
    tolerances: Path | dict[str, float] | None = None,
    data_docs: bool = False,
) -> Path:
    """Cross-validate a ResNet-50 on a folder of chest X-rays; return the run's folder."""
    config = TrainConfig(
        data=data,
        folds=folds,
        seed=seed,
        label_from=label_from,
        positive=positive,
        holdout=holdout,
        patient_pattern=patient_pattern,
        weights=weights,
        trainable=trainable,
        size=size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        augment=augment,
        views=views,
        flip=flip,
        precision=precision,
        deterministic=deterministic,
    )
    execution = Execution(
        runner=runner,
        devices=devices,
        folds_per_device=folds_per_device,
        compile=compile,
        ray_address=ray_address,
        gpus_per_fold=gpus_per_fold,
    )
    limit = Tolerances.of(tolerances)
    folder = RunFolder.named(experiments, run_id or config.default_run_id)
    if data_docs:
        require_local("--data-docs", folder.checks)
    with locked(folder.lock, f"run {folder.run_id}"), stage(folder.events, "run"):
        require_startable(config, folder, devices, folds_per_device, redo_fold)
        require_runner(execution)
        if mlflow:
            require_mlflow(mlflow)
        examine_images(config, folder, cache, size)
        if not folder.has_begun:
            check_data(folder, config, limit, data_docs)
        run = begin_run(config, folder, cache, devices, folds_per_device, redo_fold, compile)
        if runner != "ray":  # there each node does, for its own cache
            extract_features(run)
        train_folds(run, execution)
        evaluate_folds(run)
        check_results(run, limit)
        write_report(run)
        if mlflow:
            log_to_mlflow(run, mlflow)
    return folder.path
