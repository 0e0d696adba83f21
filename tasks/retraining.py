"""Start a retraining and plan it, and compare, package and promote what it has trained."""

from pathlib import Path
from typing import Any, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from cxr.config import RetrainConfig, RunLocation
from cxr.feedback import ledger
from cxr.retraining import outcome, plan
from cxr.retraining.plan import Plan
from cxr.storage.model_folder import ModelFolder
from cxr.storage.scores_folder import ScoresFolder
from tasks.deployed import read_deployment
from tasks.logs import core_log, core_logs

DEPLOYMENT = "retrain/default"
RETRY_DELAYS_S = (5, 30)


def require_deployment() -> None:
    """Raise RunError if the Prefect server does not know the deployment that trains a model again."""
    read_deployment(DEPLOYMENT)


@task(
    task_run_name="start-retraining",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=list(RETRY_DELAYS_S),
    cache_policy=NO_CACHE,
)
def start_retraining(scores: ScoresFolder, model: ModelFolder, version: str, cache: Path) -> None:
    """Start the deployment for a model, unless it was started for the same version and labels before.

    The server keeps one run for each idempotency key, however often it is asked. An automation would not do: if the
    server fails to evaluate one of the automations that cover an event, as it does where SQLite is busy, it evaluates
    them all again, and those that have acted act twice.
    """
    folders = {"out": str(scores.path), "models": str(model.path.parent), "cache": str(cache)}
    started = run_deployment(
        DEPLOYMENT,
        parameters={"name": model.name} | folders,
        idempotency_key=f"retrain {model.name} {version} {ledger.digest(scores.feedback(model.name))}",
        as_subflow=False,
        timeout=0,
    )
    core_log().info("feedback: run %r of %s trains %s again", cast(FlowRun, started).name, DEPLOYMENT, model.name)


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
