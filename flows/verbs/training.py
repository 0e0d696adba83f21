"""Verbs that check or train with the data checks, as Prefect flows: validate, train."""

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, cast

from cyclopts import Group, Parameter

from cxr.application import quick_imports
from cxr.cli import groups
from cxr.cli.app import Json, app
from cxr.cli.verbs.training import require_possible
from cxr.config import DataConfig, Execution, RetrainConfig, RunLocation, TrainConfig
from cxr.errors import ChecksFailedError
from data_checks.tolerances import Checking, Tolerances
from flows.prefect_session import prefect_session

groups.OF_CLASS[Checking] = Group("Data checks", sort_key=15)


@app.command(group=groups.DATA)
def validate(
    *,
    config: Annotated[DataConfig, Parameter(name="*")],
    location: Annotated[RunLocation, Parameter(name="*")] = RunLocation(),  # noqa: B008 it is frozen
    checks: Annotated[Checking, Parameter(name="*")] = Checking(),  # noqa: B008
    json: Json = False,
) -> None:
    """Check a folder of chest X-rays with Great Expectations, as the Prefect flow validate-dataset.

    Nothing is trained. Exit code 0 if the data are fit to train on, 1 if something critical is wrong with them, 2 if
    they could not be checked.

    Example: cxr validate --data chest_xray.zip
    """
    from cxr.cli import documents, run_results
    from cxr.storage.run_folder import RunFolder

    limits = _as_values(checks)
    require_possible(config, location)
    with prefect_session():
        with quick_imports(to_stay=True):
            from flows.validate_dataset import validate_dataset

        folder = RunFolder.named(location.experiments, location.run_id or config.default_run_id)
        try:
            validate_dataset(**asdict(config), **asdict(location), **asdict(limits))
        except ChecksFailedError:
            (documents if json else run_results).show_checks(folder)
            sys.exit(1)
    (documents if json else run_results).show_checks(folder)


@app.command(group=groups.TRAINING)
def train(
    *,
    config: Annotated[TrainConfig, Parameter(name="*")],
    execution: Annotated[Execution, Parameter(name="*")] = Execution(),  # noqa: B008 it is frozen
    checks: Annotated[Checking, Parameter(name="*")] = Checking(),  # noqa: B008
    json: Json = False,
) -> None:
    """Cross-validate a ResNet-50 on a folder of chest X-rays, as the Prefect flow train-cv.

    If the run is killed, rerun the same command to resume it.

    Example: cxr train --data chest_xray.zip --run-id first
    """
    from cxr.cli import documents, run_results
    from cxr.storage.run_folder import RunFolder

    limits = _as_values(checks)
    require_possible(config, execution)
    with prefect_session():
        with quick_imports(to_stay=True):
            from flows.train_cv import train_cv
            from tasks.training import require_address

        require_address(execution)
        path = cast(Path, train_cv(**asdict(config), **asdict(execution), **asdict(limits)))
    (documents if json else run_results).show_results(RunFolder(path))


@app.command(group=groups.MODELS)
def retrain(
    *,
    config: Annotated[RetrainConfig, Parameter(name="*")],
    execution: Annotated[Execution, Parameter(name="*")] = Execution(),  # noqa: B008 it is frozen
    checks: Annotated[Checking, Parameter(name="*")] = Checking(),  # noqa: B008
    json: Json = False,
) -> None:
    """Train a model again with the images that `cxr feedback` has labels of, as the Prefect flow retrain.

    The champion's recipe is trained on its own images and on these, less a share of the patients, on whose images the
    new version and the champion are compared. It becomes champion if its ROC-AUC is lower by no more than the margin,
    with 95% confidence. Exit code 0 if it is the champion, 1 if it stays a challenger. If the process is killed, rerun
    the same command to resume it.

    Example: cxr retrain --name pneumonia
    """
    from cxr.cli import documents, model_results
    from cxr.storage import verified
    from cxr.storage.run_folder import RunFolder

    limits = _as_values(checks)
    require_retrainable(config, execution)
    with prefect_session():
        with quick_imports(to_stay=True):
            from flows.retrain import retrain as flow
            from tasks.training import require_address

        require_address(execution)
        folder = RunFolder(cast(Path, flow(**asdict(config), **asdict(execution), **asdict(limits))))
    (documents if json else model_results).show_retraining(folder)
    sys.exit(0 if verified.read_json(folder.retraining.outcome)["promoted"] else 1)


def require_retrainable(config: RetrainConfig, execution: Execution) -> None:
    """Check, before a server starts, that there is a champion whose run is here, and that something is labelled.

    Raises:
        CxrError: the first thing that is wrong.
    """
    from cxr.cli import terminal
    from cxr.retraining.champion import require_possible as require_plannable

    with terminal.log_lines():
        require_plannable(config, execution)


def _as_values(checks: Checking) -> Checking:
    """Return the checks with every limit in place of the TOML file, which the flow may run too far away to read."""
    return replace(checks, tolerances=asdict(Tolerances.of(checks.tolerances)))
