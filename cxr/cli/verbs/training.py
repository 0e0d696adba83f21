"""Verbs that begin a training: train, without Prefect and Great Expectations, and presets.

The `cxr` command has `train` as a flow. Commands import torch only after they have looked at their arguments, so
`--help` and a misspelt path are answered at once.
"""

from typing import Annotated

from cyclopts import Parameter

from cxr.cli import groups
from cxr.cli.app import Json, app
from cxr.config import DataConfig, Execution, RunLocation, TrainConfig


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
    from cxr.cli import documents, run_results, terminal
    from cxr.pipeline import cross_validate

    terminal.stop_on_signals()
    with terminal.log_lines():
        folder = cross_validate(config, execution)
    (documents if json else run_results).show_results(folder)


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
    from cxr.dataset.listing.admission import require_examinable

    require_examinable(source, config, folder, location.cache)
    if isinstance(config, TrainConfig) and isinstance(location, Execution):
        from cxr.training.beginning import require_startable

        with terminal.log_lines():  # weights may have to be downloaded
            require_startable(config, folder, location)


@app.command(group=groups.TRAINING)
def presets(*, weights: str = "imagenet-v1", json: Json = False) -> None:
    """Show the recipe that each preset stands for; `cxr train --preset NAME` uses one.

    Example: cxr presets --weights none

    Args:
        weights: Where the network starts, as for `cxr train`; the recipes depend on whether it is none.
    """
    from cxr.cli import documents, run_results
    from cxr.recipe import PRESETS

    (documents if json else run_results).show_recipes({name: options(weights) for name, options in PRESETS.items()})
