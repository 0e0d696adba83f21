"""Verbs for runs that need neither Prefect nor Great Expectations: train, evaluate, report, list.

The `cxr` command has the same verbs, with `train` as a flow, and adds those that check the data.

Commands import torch only after they have looked at their arguments, so `--help` and a misspelt run are answered at
once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cxr.cli import groups
from cxr.cli.app import Device, Experiments, Json, app
from cxr.cli.terminal import say
from cxr.config import DataConfig, Execution, RunLocation, TrainConfig
from cxr.errors import ConfigError
from cxr.labelling import Labelling

if TYPE_CHECKING:
    from cxr.storage.run_folder import RunFolder
    from cxr.training.run import Run


def train(
    *,
    config: Annotated[TrainConfig, Parameter(name="*")],
    execution: Annotated[Execution, Parameter(name="*")] = Execution(),  # noqa: B008 it is frozen
    json: Json = False,
) -> None:
    """Cross-validate a ResNet-50 on a folder of chest X-rays, without Prefect and without the data checks.

    The run's folder and tables are those of `cxr train`, without the checks. If the run is killed, rerun the same
    command to resume it.

    Example: python -m cxr train --data chest_xray.zip --run-id first
    """
    require_possible(config, execution)
    from cxr.cli import documents, tables, terminal
    from cxr.pipeline import cross_validate

    terminal.stop_on_signals()
    with terminal.log_lines():
        folder = cross_validate(config, execution)
    (documents if json else tables).show_results(folder)


def require_possible(config: DataConfig, location: RunLocation) -> None:
    """Check what options and names of files show, before images are read or a server starts.

    The order is that of time: a misspelt path needs no torch, and a class that is not there no weights to download.

    Raises:
        CxrError: the first thing that is wrong.
    """
    from cxr.images.source import open_source
    from cxr.storage.run_folder import RunFolder

    source = open_source(config.data)
    folder = RunFolder.named(location.experiments, location.run_id or config.default_run_id)
    from cxr.cli import terminal
    from cxr.dataset.examination import require_examinable

    require_examinable(source, config, folder, location.cache)
    if isinstance(config, TrainConfig) and isinstance(location, Execution):
        from cxr.training.run import require_startable

        with terminal.log_lines():  # weights may have to be downloaded
            require_startable(config, folder, location)


@app.command(group=groups.TRAINING)
def presets(*, weights: str = "imagenet-v1", json: Json = False) -> None:
    """Show the recipe that each preset stands for; `cxr train --preset NAME` uses one.

    Example: cxr presets --weights none

    Args:
        weights: Where the network starts, as for `cxr train`; the recipes depend on whether it is none.
    """
    from cxr.cli import documents, tables
    from cxr.recipe import PRESETS

    (documents if json else tables).show_recipes({name: options(weights) for name, options in PRESETS.items()})


@app.command(group=groups.DATA)
def sets(*, json: Json = False) -> None:
    """Show the collections whose tables the program knows how to read; `--describe NAME` uses one.

    Example: cxr sets
    """
    from cxr.cli import documents, tables
    from cxr.descriptions import shipped

    (documents if json else tables).show_sets(shipped())


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
    from cxr.cli import documents, tables
    from cxr.evaluation.tables import evaluate as write_tables
    from cxr.network.devices import resolve_device
    from cxr.training.predictions import predict_fold
    from cxr.training.run import require_complete

    with locked_run(folder) as begun:
        require_complete(begun)
        for fold in range(begun.config.folds):
            predict_fold(begun, fold, resolve_device(device))
        write_tables(begun)
    (documents if json else tables).show_results(folder)


@app.command(group=groups.FINISHED_RUNS)
def report(
    run: str,
    /,
    *,
    open_test: bool = False,
    external: tuple[str, ...] = (),
    labelling: Annotated[Labelling, Parameter(name="*")] = Labelling(),  # noqa: B008 it is frozen
    experiments: Experiments = Path("experiments"),
) -> None:
    """Write a finished run's report again: one HTML file, its figures, and every figure's numbers.

    Example: cxr report real64 --open-test

    Args:
        run: Run id, or path of the run's folder.
        open_test: Also evaluate the images that --holdout kept out; every opening is recorded.
        external: Folder or archive of an external test set to evaluate as well, laid out as for training, or with
            tables of labels.
    """
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    if labelling.reads_tables and not external:
        raise ConfigError("--labels is for an external test set: give it with --external DATA.")
    from cxr.evaluation.outside_tests import evaluate_external, open_held_out_test
    from cxr.report.run.report import write_report

    with locked_run(folder) as finished:
        if open_test:
            open_held_out_test(finished)
        for data in external:
            evaluate_external(finished, data, labelling)
        path = write_report(finished)
    say(f"report   {path}")
    say(f"figures  {folder.figures}")


@app.command(group=groups.FINISHED_RUNS)
def runs(*, experiments: Experiments = Path("experiments"), json: Json = False) -> None:
    """Show every run with its pooled out-of-fold metrics, in percent.

    Example: cxr runs
    """
    from cxr.cli import documents, tables
    from cxr.evaluation.overview import list_runs

    (documents if json else tables).show_runs(list_runs(experiments))


@contextmanager
def locked_run(folder: "RunFolder") -> Iterator["Run"]:
    """Hold a run's lock inside the block, and show log lines; yields the run.

    Raises:
        CxrError: Another process holds the run, or another version of cxr wrote it.
    """
    from cxr.cli import terminal
    from cxr.storage import files
    from cxr.training.run import load_run

    with terminal.log_lines(), files.locked(folder.lock, f"run {folder.run_id}"):
        yield load_run(folder)
