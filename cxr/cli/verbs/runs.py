"""Verbs for finished runs: report, runs; and the lock of a run that a verb works on.

Commands import torch only after they have looked at their arguments, so `--help` and a misspelt run are answered at
once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cxr.cli import groups
from cxr.cli.app import Experiments, Json, app
from cxr.cli.terminal import say
from cxr.errors import ConfigError
from cxr.labelling import LabelTables

if TYPE_CHECKING:
    from cxr.storage.run_folder import RunFolder
    from cxr.training.run import Run


@app.command(group=groups.FINISHED_RUNS)
def report(
    run: str,
    /,
    *,
    open_test: bool = False,
    external: tuple[str, ...] = (),
    labelling: Annotated[LabelTables, Parameter(name="*")] = LabelTables(),  # noqa: B008 it is frozen
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
    from cxr.evaluation.outside.tests import evaluate_external, open_held_out_test
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
    from cxr.cli import documents, run_results
    from cxr.evaluation.overview import list_runs

    (documents if json else run_results).show_runs(list_runs(experiments))


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
