"""Verbs about the folds of a run: train one of them, predict the held-out images of all of them again."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cxr.application import quick_imports
from cxr.cli import groups
from cxr.cli.app import Device, Experiments, Json, app
from cxr.cli.verbs.runs import locked_run


@app.command(group=groups.TRAINING)
def train_fold(
    run: str,
    fold: int,
    /,
    *,
    device: Device = "auto",
    experiments: Experiments = Path("experiments"),
    supervised: Annotated[bool, Parameter(show=False)] = False,
) -> None:
    """Train one fold of a run that `cxr train` has begun, or resume it.

    Example: cxr train-fold real64 3

    Args:
        run: Run id, or path of the run's folder.
        fold: Number of the fold, from 0.
    """
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    with quick_imports(to_stay=True):
        from cxr.cli import terminal
        from cxr.network.devices import keep_freed_memory, resolve_device
        from cxr.training import supervision
        from cxr.training.run import load_run
        from cxr.training.trainer import train_fold

    keep_freed_memory()
    stop = supervision.StopRequest()
    stop.listen()
    with supervision.reporting_to_parent() if supervised else terminal.log_lines():
        begun = load_run(folder)
        train_fold(begun, fold, resolve_device(device), stop)


@app.command(group=groups.FINISHED_RUNS)
def evaluate(
    run: str,
    /,
    *,
    device: Device = "auto",
    experiments: Experiments = Path("experiments"),
    json: Json = False,
) -> None:
    """Predict every held-out image again with the folds' weights, and rewrite every table; nothing is trained.

    Example: cxr evaluate real64

    Args:
        run: Run id, or path of the run's folder.
    """
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr.cli import documents, run_results
    from cxr.evaluation.tables import evaluate as write_tables
    from cxr.network.devices import resolve_device
    from cxr.training.predictions import predict_fold
    from cxr.training.run import require_complete

    with locked_run(folder) as begun:
        require_complete(begun)
        for fold in range(begun.config.folds):
            predict_fold(begun, fold, resolve_device(device))
        write_tables(begun)
    (documents if json else run_results).show_results(folder)
