"""Examine the images."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.storage.run_folder import RunFolder
from tasks.logs import core_logs


@task(task_run_name="examine-images", cache_policy=NO_CACHE)
def examine_images(config: DataConfig, folder: RunFolder, cache: Path, size: int | None = None) -> RunFolder:
    """Read every image, find copies and make folds; or check that the images are those of a run that has begun.

    Returns the folder: what depends on it takes it from here, so that Prefect's graph shows what needs what.
    """
    with core_logs():
        examine(config, folder, cache=cache, size=size)
    return folder
