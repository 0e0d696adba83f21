"""The one `cxr` command: the core's verbs, and those that run as Prefect flows."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

from cyclopts import Parameter

from cxr.__main__ import app
from cxr.config import DataConfig, Place, Placement, TrainConfig
from cxr.errors import ChecksFailedError, CxrError, FoldFailedError
from data_checks.tolerances import Checking, Tolerances

PREFECT_DEFAULTS = {  # as in prefect.toml, which Prefect reads only from the working folder
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
}


@app.command
def validate(
    *,
    config: Annotated[DataConfig, Parameter(name="*")],
    place: Annotated[Place, Parameter(name="*")] = Place(),  # noqa: B008 it is frozen
    checks: Annotated[Checking, Parameter(name="*")] = Checking(),  # noqa: B008
) -> None:
    """Judge a folder of chest X-rays with Great Expectations, as the Prefect flow validate-dataset.

    Nothing is trained. Exit code 0 if the data may be trained on, 1 if something critical is wrong with
    them, 2 if they could not be judged.

    Example: cxr validate --data chest_xray.zip
    """
    from cxr import terminal
    from cxr.source import open_source
    from cxr.store import RunFolder

    open_source(config.data)  # what is misspelt is told before a server is started
    limits = {"tolerances": asdict(Tolerances.of(checks.tolerances)), "data_docs": checks.data_docs}
    with _prefect():
        from flows.validate_dataset import validate_dataset

        folder = RunFolder.named(place.experiments, place.run_id or config.default_run_id)
        try:
            validate_dataset(**asdict(config), **asdict(place), **limits)
        except ChecksFailedError:
            terminal.show_checks(folder)
            sys.exit(1)
    terminal.show_checks(folder)


@app.command
def train(
    *,
    config: Annotated[TrainConfig, Parameter(name="*")],
    place: Annotated[Placement, Parameter(name="*")] = Placement(),  # noqa: B008 it is frozen
    checks: Annotated[Checking, Parameter(name="*")] = Checking(),  # noqa: B008
) -> None:
    """Cross-validate a ResNet-50 on a folder of chest X-rays, as the Prefect flow train-cv.

    Typed again after a kill, it goes on where it stopped.

    Example: cxr train --data chest_xray.zip --run-id first
    """
    from cxr import terminal
    from cxr.source import open_source
    from cxr.store import RunFolder

    open_source(config.data)  # what is misspelt is told before a server is started
    limits = {"tolerances": asdict(Tolerances.of(checks.tolerances)), "data_docs": checks.data_docs}
    with _prefect():
        from flows.train_cv import train_cv

        path = cast(Path, train_cv(**asdict(config), **asdict(place), **limits))
    terminal.show_results(RunFolder(path))


@contextmanager
def _prefect() -> Iterator[None]:
    """Set Prefect's defaults before it is imported; show bars; tell known errors in one sentence, once."""
    from cxr import terminal

    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_tells_no_known_error_twice)
    with terminal.bars():
        yield


def _tells_no_known_error_twice(record: logging.LogRecord) -> bool:
    """Drop the traceback of an error that the command ends with in one sentence."""
    return not (record.exc_info and isinstance(record.exc_info[1], CxrError | FoldFailedError))


@app.command
def demo() -> None:
    """Draw synthetic films and cross-validate on them: the whole pipeline in minutes, no data needed.

    Example: cxr demo
    """
    from cxr.synthetic import draw_films

    films = Path("demo") / "chest_xray"
    if not films.exists():
        draw_films(films, n_films=400, seed=0)
    train(
        config=TrainConfig(data=str(films), weights="none", trainable="all", size=64, epochs=6, batch_size=16),
        place=Placement(run_id="demo"),
    )


def main() -> None:
    """Run the `cxr` command."""
    from cxr.terminal import run_command

    run_command(app)
