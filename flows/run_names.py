"""What runs are listed as in Prefect's UI, in place of two random words."""

from pathlib import PurePath

from prefect.runtime import flow_run


def scoring_run_name() -> str:
    """Return the model that scores, and when the run was due."""
    return f"{flow_run.parameters['name']} {_due()}"


def run_name() -> str:
    """Return the run's id where it was given; else what the data are called, and when the run was due."""
    given = flow_run.parameters
    return given.get("run_id") or f"{PurePath(given['data']).name} {_due()}"


def _due() -> str:
    return f"{flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"
