"""Validate-dataset: is this data set fit to train on?"""

from pathlib import Path

from prefect import flow

from cxr.config import KAGGLE_PATIENT, DataConfig, LabelFrom, RunLocation
from cxr.storage.files import locked, require_local
from cxr.storage.run_folder import RunFolder
from data_checks.tolerances import Checking, Tolerances
from flows.parameters import described_by
from tasks.checks import check_data
from tasks.dataset import examine_images


@flow(name="validate-dataset")
@described_by(DataConfig, RunLocation, Checking)
def validate_dataset(
    data: str,
    folds: int = 5,
    seed: int = 0,
    label_from: LabelFrom = "folder",
    positive: str | None = None,
    holdout: str | None = None,
    patient_pattern: str = KAGGLE_PATIENT,
    run_id: str | None = None,
    experiments: Path = Path("experiments"),
    cache: Path = Path("cache"),
    tolerances: Path | dict[str, float] | None = None,
    data_docs: bool = False,
) -> Path:
    """Examine the images, judge every table of them, write a report; fail if anything critical is wrong."""
    config = DataConfig(
        data=data,
        folds=folds,
        seed=seed,
        label_from=label_from,
        positive=positive,
        holdout=holdout,
        patient_pattern=patient_pattern,
    )
    limit = Tolerances.of(tolerances)
    folder = RunFolder.named(experiments, run_id or config.default_run_id)
    if data_docs:
        require_local("--data-docs", folder.checks)
    with locked(folder.lock, f"run {folder.run_id}"):
        examine_images(config, folder, cache)
        check_data(folder, config, limit, data_docs)
    return folder.path
