"""Verbs that ask more of a finished run: stress, learning curve, MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cxr.cli import groups
from cxr.cli.app import Device, Experiments, Json, app
from cxr.cli.terminal import say
from cxr.cli.verbs.runs import locked_run

if TYPE_CHECKING:
    pass


@app.command(group=groups.FINISHED_RUNS)
def stress(
    run: str,
    /,
    *,
    images: Annotated[int, Parameter(alias="--films")] = 400,
    seed: int = 0,
    device: Device = "auto",
    experiments: Experiments = Path("experiments"),
    json: Json = False,
) -> None:
    """Evaluate degraded held-out images (blur, noise, contrast, JPEG, rotation), and write the run's report again.

    Example: cxr stress real64

    Args:
        run: Run id, or path of the run's folder.
        images: How many images at most, a random sample with each class by its share; each is predicted 21 times.
        seed: The same seed gives the same images, noise and rotations.
    """
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr.cli import documents, run_results
    from cxr.evaluation.on_request.stress import stress
    from cxr.network.devices import resolve_device
    from cxr.report.run.report import write_report

    with locked_run(folder) as finished:
        table = stress(finished, n_images=images, seed=seed, device=resolve_device(device))
        path = write_report(finished)
    files = {"table": folder.table("stress"), "report": path}
    (documents if json else run_results).show_stress(table, finished.outputs, files)


@app.command(group=groups.FINISHED_RUNS)
def learning_curve(
    run: str,
    /,
    *,
    share: tuple[float, ...] = (0.25, 0.5),
    device: Device = "auto",
    experiments: Experiments = Path("experiments"),
    json: Json = False,
) -> None:
    """Train a finished run again on shares of its patients, to see if more images would help; rewrite its report.

    This takes as long as training the shares: seconds for a head on a frozen trunk. If it is killed, rerun the same
    command to resume it.

    Example: cxr learning-curve real64 --share 0.1 --share 0.5

    Args:
        run: Run id, or path of the run's folder.
        share: Share of each fold's training patients, above 0 and below 1; may be repeated.
    """
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr.cli import documents, run_results
    from cxr.evaluation.on_request.learning_curve import learning_curve
    from cxr.network.devices import keep_freed_memory, resolve_device
    from cxr.report.run.report import write_report

    keep_freed_memory()
    with locked_run(folder) as finished:
        table = learning_curve(finished, share, device=resolve_device(device))
        path = write_report(finished)
    files = {"table": folder.table("learning_curve"), "report": path}
    (documents if json else run_results).show_learning_curve(table, finished.outputs, files)


@app.command(group=groups.FINISHED_RUNS)
def mlflow(run: str, /, *, store: str = "sqlite:///mlflow.db", experiments: Experiments = Path("experiments")) -> None:
    """Log a finished run to MLflow: parameters, metrics, tables and report, with a nested run for each fold.

    Needs the extra [mlflow]. To look at it: `mlflow ui --backend-store-uri sqlite:///mlflow.db`.

    Example: cxr mlflow real64

    Args:
        run: Run id, or path of the run's folder.
        store: sqlite:///FILE, with artifacts in the folder mlartifacts beside it, or the http address of a server.
    """
    from cxr.report.tracking import log_run, require_mlflow
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    require_mlflow(store)
    from cxr.cli import terminal
    from cxr.training.run import load_run

    with terminal.log_lines():
        logged = log_run(load_run(folder), store)
    say(f"MLflow   {logged} in {store}")
