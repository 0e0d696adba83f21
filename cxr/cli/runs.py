"""The core's command line, `python -m cxr`: what needs neither Prefect nor Great Expectations.

The `cxr` command has the same verbs, `train` as a flow, and adds those that judge data with Great Expectations.

Imports of torch stay inside the commands, behind the first look at what was typed: `--help` and a
misspelt run are answered at once.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cxr.cli.app import Device, Experiments, app
from cxr.config import Execution, TrainConfig


def train(
    *,
    config: Annotated[TrainConfig, Parameter(name="*")],
    execution: Annotated[Execution, Parameter(name="*")] = Execution(),  # noqa: B008 it is frozen
) -> None:
    """Cross-validate a ResNet-50 on a folder of chest X-rays, without Prefect and without the data checks.

    Run folder and tables are those of `cxr train`; Prefect and Great Expectations need not be installed.
    Typed again after a kill, it goes on where it stopped.

    Example: python -m cxr train --data chest_xray.zip --run-id first
    """
    from cxr.cli import tables, terminal
    from cxr.images.source import open_source

    open_source(config.data)  # what is misspelt is told before the libraries are loaded
    from cxr.pipeline import cross_validate

    terminal.stop_on_signals()
    with terminal.log_lines():
        folder = cross_validate(config, execution)
    tables.show_results(folder)


@app.command
def train_fold(
    run: str,
    fold: int,
    /,
    *,
    device: Device = "auto",
    experiments: Experiments = Path("experiments"),
    supervised: Annotated[bool, Parameter(show=False)] = False,
) -> None:
    """Train one fold of a run that `cxr train` began; resume it where it stopped.

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


@app.command
def evaluate(run: str, /, *, device: Device = "auto", experiments: Experiments = Path("experiments")) -> None:
    """Predict every held-out image anew from the folds' weights and rewrite every table; nothing is trained.

    Example: cxr evaluate real64

    Args:
        run: Run id, or path of the run's folder.
    """
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr.cli import tables, terminal
    from cxr.evaluation.tables import evaluate as write_tables
    from cxr.network.devices import resolve_device
    from cxr.storage import files
    from cxr.training.predictions import predict_fold
    from cxr.training.run import load_run, require_complete

    with terminal.log_lines(), files.locked(folder.lock, f"run {folder.run_id}"):
        begun = load_run(folder)
        require_complete(begun)
        for fold in range(begun.config.folds):
            predict_fold(begun, fold, resolve_device(device))
        write_tables(begun)
    tables.show_results(folder)


@app.command
def report(
    run: str,
    /,
    *,
    open_test: bool = False,
    external: tuple[str, ...] = (),
    experiments: Experiments = Path("experiments"),
) -> None:
    """Write a finished run's report anew: one HTML file, its figures, and every figure's numbers.

    Example: cxr report real64 --open-test

    Args:
        run: Run id, or path of the run's folder.
        open_test: Evaluate the images that --holdout has kept out, once; each opening is written down.
        external: Folder or zip of an outside set, laid out as for training, to be judged as well.
    """
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr.cli import terminal
    from cxr.evaluation.outside_tests import evaluate_external, open_held_out_test
    from cxr.report.run_report import write_report
    from cxr.storage import files
    from cxr.training.run import load_run

    with terminal.log_lines(), files.locked(folder.lock, f"run {folder.run_id}"):
        finished = load_run(folder)
        if open_test:
            open_held_out_test(finished)
        for data in external:
            evaluate_external(finished, data)
        path = write_report(finished)
    print(f"report   {path}")
    print(f"figures  {folder.figures}")


@app.command
def stress(
    run: str,
    /,
    *,
    images: Annotated[int, Parameter(alias="--films")] = 400,
    seed: int = 0,
    device: Device = "auto",
    experiments: Experiments = Path("experiments"),
) -> None:
    """Evaluate held-out images that are degraded (blur, noise, contrast, JPEG, rotation); write the report again.

    Example: cxr stress real64

    Args:
        run: Run id, or path of the run's folder.
        images: At most so many images, drawn at random, each class by its share; each is judged 21 times.
        seed: The same seed draws the same images, noise and turns.
    """
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr.cli import tables, terminal
    from cxr.evaluation.stress import stress
    from cxr.network.devices import resolve_device
    from cxr.report.run_report import write_report
    from cxr.storage import files
    from cxr.training.run import load_run

    with terminal.log_lines(), files.locked(folder.lock, f"run {folder.run_id}"):
        finished = load_run(folder)
        table = stress(finished, n_images=images, seed=seed, device=resolve_device(device))
        path = write_report(finished)
    tables.show_stress(table, finished.classes)
    print(f"table    {folder.table('stress')}")
    print(f"report   {path}")


@app.command
def learning_curve(
    run: str,
    /,
    *,
    share: tuple[float, ...] = (0.25, 0.5),
    device: Device = "auto",
    experiments: Experiments = Path("experiments"),
) -> None:
    """Train a finished run again on shares of its patients, to see if more images would help; write its report anew.

    Takes as long as training the shares does: seconds for a head on a frozen trunk. Typed again after a kill, it
    goes on where it stopped.

    Example: cxr learning-curve real64 --share 0.1 --share 0.5

    Args:
        run: Run id, or path of the run's folder.
        share: Of each fold's training patients, above 0 and below 1.
    """
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr.cli import tables, terminal
    from cxr.evaluation.learning_curve import learning_curve
    from cxr.network.devices import keep_freed_memory, resolve_device
    from cxr.report.run_report import write_report
    from cxr.storage import files
    from cxr.training.run import load_run

    keep_freed_memory()
    with terminal.log_lines(), files.locked(folder.lock, f"run {folder.run_id}"):
        finished = load_run(folder)
        table = learning_curve(finished, share, device=resolve_device(device))
        path = write_report(finished)
    tables.show_learning_curve(table, finished.classes)
    print(f"table    {folder.table('learning_curve')}")
    print(f"report   {path}")


@app.command
def mlflow(run: str, /, *, store: str = "sqlite:///mlflow.db", experiments: Experiments = Path("experiments")) -> None:
    """Log a finished run to MLflow: params, metrics, tables and report, and in it a nested run for each fold.

    Needs the extra [mlflow]. Look at it with `mlflow ui --backend-store-uri sqlite:///mlflow.db`.

    Example: cxr mlflow real64

    Args:
        run: Run id, or path of the run's folder.
        store: sqlite:///FILE, artifacts in the folder mlartifacts beside it; or the http address of a server.
    """
    from cxr.report.tracking import log_run, require_mlflow
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    require_mlflow(store)
    from cxr.cli import terminal
    from cxr.training.run import load_run

    with terminal.log_lines():
        logged = log_run(load_run(folder), store)
    print(f"MLflow   {logged} in {store}")


@app.command
def compare(
    first: str, second: str, /, *more: str, experiments: Experiments = Path("experiments"), out: Path | None = None
) -> None:
    """Compare finished runs on the images that all have judged: paired differences, and which images changed sides.

    Example: cxr compare real64 real96

    Args:
        first: Run id, or path of a run's folder; the others are compared with it.
        second: Another run.
        more: Further runs.
        out: Folder for the two tables; by default comparisons/<first>_<second>…
    """
    from cxr.storage.run_folder import ComparisonFolder, RunFolder

    runs = [RunFolder.existing(run, experiments) for run in (first, second, *more)]
    from cxr.cli import tables
    from cxr.evaluation import comparison
    from cxr.evaluation.comparison import write_comparison

    compared = comparison.compare(runs)
    folder = ComparisonFolder(out or Path("comparisons") / "_".join(run.run_id for run in runs))
    write_comparison(folder, compared)
    tables.show_comparison(compared)
    print(f"tables   {folder.metrics}")
    print(f"         {folder.changed_images}")


@app.command
def runs(*, experiments: Experiments = Path("experiments")) -> None:
    """Show every run with its pooled out-of-fold metrics, in percent.

    Example: cxr runs
    """
    from cxr.cli import tables
    from cxr.evaluation.overview import list_runs

    tables.show_runs(list_runs(experiments))
