"""Run the frozen layers over the films that they have not seen yet."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from cxr import features
from cxr.experiment import Experiment
from tasks.logs import core_logs


@task(task_run_name="extract-features", cache_policy=NO_CACHE)
def extract_features(run: Experiment) -> None:
    """Compute what the frozen layers give for each film, once for all folds, epochs and later runs."""
    with core_logs():
        features.extract(run, run.devices[0])
