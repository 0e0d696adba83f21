"""Validate-dataset: is this data set fit to train on?"""

from pathlib import Path

from prefect import flow

from cxr.config import DataConfig, RunLocation
from cxr.storage.files import locked, require_local
from cxr.storage.run_folder import RunFolder
from data_checks.tolerances import Checking, Tolerances
from flows.parameters import flat_parameters
from flows.run_names import run_name
from tasks.checks import check_data
from tasks.dataset import examine_images


@flow(name="validate-dataset", flow_run_name=run_name)
@flat_parameters
def validate_dataset(config: DataConfig, location: RunLocation, checks: Checking) -> Path:
    """Examine the images, check every table of them, and write a report; fail if anything critical is wrong."""
    limit = Tolerances.of(checks.tolerances)
    folder = RunFolder.named(location.experiments, location.run_id or config.default_run_id)
    if checks.data_docs:
        require_local("--data-docs", folder.checks)
    with locked(folder.lock, f"run {folder.run_id}"):
        folder = examine_images(config, folder, location.cache)
        check_data(folder, config, limit, checks.data_docs)
    return folder.path
