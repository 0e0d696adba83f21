"""Begin a run, or take it up again."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from cxr import experiment
from cxr.config import Compile, FoldsPerDevice, TrainConfig
from cxr.experiment import Experiment
from cxr.layout import RunFolder
from tasks.logs import core_logs


@task(task_run_name="begin-run", cache_policy=NO_CACHE)
def begin_run(
    config: TrainConfig, folder: RunFolder, cache: Path, devices: str, folds_per_device: FoldsPerDevice,
    redo_fold: tuple[int, ...], compile: Compile,
) -> Experiment:  # fmt: skip
    """Write the facts of a run whose films were examined; or check that they are the same."""
    with core_logs():
        return experiment.begin(
            config, folder, cache=cache, devices=devices, folds_per_device=folds_per_device, redo_fold=redo_fold,
            compile=compile,
        )  # fmt: skip
