"""Plan a retraining, and compare, package and promote what it has trained."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from cxr.config import RetrainConfig, RunLocation
from cxr.retraining import outcome, plan
from cxr.retraining.plan import Plan
from cxr.storage.model_folder import ModelFolder
from tasks.logs import core_logs


@task(task_run_name="plan-retraining", cache_policy=NO_CACHE)
def plan_retraining(config: RetrainConfig, location: RunLocation) -> Plan:
    """Write the table of the images to train on, and set some patients aside."""
    with core_logs():
        return plan.plan_retraining(config, location)


def is_packaged(found: Plan, config: RetrainConfig) -> bool:
    """Return whether the model has a version that was retrained from the same images before."""
    return outcome.version_of(ModelFolder.named(config.models, config.name), found) is not None


@task(task_run_name="compare-and-package", cache_policy=NO_CACHE)
def compare_and_package(found: Plan, config: RetrainConfig) -> dict[str, Any]:
    """Compare the new networks with the champion on the patients set aside, package them, and promote by the rule."""
    with core_logs():
        return outcome.conclude(found, config)
