"""Write a run's report, and log the run to MLflow."""

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE

from cxr.report.run import report
from cxr.report.tracking import log_run
from cxr.training.run import Run
from cxr.wording import markdown
from tasks.artifacts import artifact_key
from tasks.logs import core_logs


@task(task_run_name="write-report", cache_policy=NO_CACHE)
def write_report(run: Run) -> Run:
    """Write the run's report, publish a link to it, and return the run."""
    with core_logs():
        path = report.write_report(run)
    run_id = run.folder.run_id
    create_link_artifact(
        path.as_uri(),
        link_text=f"report of run {run_id}",
        key=f"report-{artifact_key(run_id)}",
        description=f"run {markdown(run_id)}: figures, verdict and what was not done, as one HTML file",
    )
    return run


@task(task_run_name="log-to-mlflow", cache_policy=NO_CACHE)
def log_to_mlflow(run: Run, uri: str) -> None:
    """Log the run to an MLflow store."""
    with core_logs():
        log_run(run, uri)
