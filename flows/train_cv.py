"""Train-CV: from a folder of chest X-rays to out-of-fold tables."""

from pathlib import Path

from prefect import flow

from cxr.config import KAGGLE_PATIENT, LabelFrom, Placement, Precision, Trainable, TrainConfig
from cxr.store import RunFolder, locked
from flows.parameters import described_by
from tasks.evaluation import evaluate_folds
from tasks.experiment import begin_run
from tasks.training import train_folds


@flow(name="train-cv")
@described_by(TrainConfig, Placement)
def train_cv(
    data: str,
    weights: str = "imagenet-v1",
    trainable: Trainable = "head",
    size: int = 224,
    epochs: int = 10,
    folds: int = 5,
    seed: int = 0,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    label_from: LabelFrom = "folder",
    positive: str | None = None,
    holdout: str | None = None,
    patient_pattern: str = KAGGLE_PATIENT,
    augment: bool = True,
    flip: bool = False,
    precision: Precision = "auto",
    deterministic: bool = False,
    run_id: str | None = None,
    devices: str = "auto",
    experiments: Path = Path("experiments"),
    cache: Path = Path("cache"),
    redo_fold: tuple[int, ...] = (),
) -> Path:
    """Cross-validate a ResNet-50 on a folder of chest X-rays; return the run's folder."""
    config = TrainConfig(
        data=data, weights=weights, trainable=trainable, size=size, epochs=epochs, folds=folds, seed=seed,
        batch_size=batch_size, learning_rate=learning_rate, label_from=label_from, positive=positive,
        holdout=holdout, patient_pattern=patient_pattern, augment=augment, flip=flip, precision=precision,
        deterministic=deterministic,
    )  # fmt: skip
    folder = RunFolder.named(experiments, run_id or config.default_run_id)
    with locked(folder.lock, f"run {folder.run_id}"):
        run = begin_run(config, folder, cache, devices, redo_fold)
        train_folds(run)
        evaluate_folds(run)
    return folder.path
