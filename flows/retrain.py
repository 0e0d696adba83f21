"""Retrain: from labels that came later to a new version of a model, compared with its champion."""

from dataclasses import asdict
from pathlib import Path

from prefect import flow

from cxr.config import Execution, RetrainConfig
from data_checks.tolerances import Checking
from flows.parameters import flat_parameters
from flows.run_names import scoring_run_name
from flows.train_cv import train_cv
from tasks.retraining import compare_and_package, is_packaged, plan_retraining


@flow(name="retrain", flow_run_name=scoring_run_name)
@flat_parameters
def retrain(config: RetrainConfig, execution: Execution, checks: Checking) -> Path:
    """Train a model's recipe on its images and those labelled since; the result replaces the champion if no worse.

    Returns the folder of the run.
    """
    plan = plan_retraining(config, execution)
    if not is_packaged(plan, config):
        of_run = asdict(execution) | {"run_id": plan.folder.run_id}
        train_cv(**asdict(plan.config), **of_run, **asdict(checks))
    compare_and_package(plan, config)
    return plan.folder.path
