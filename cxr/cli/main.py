"""Which verbs there are: all of them for `cxr` in a checkout; the core's for `python -m cxr` and the wheel."""

import importlib
import sys
from pathlib import Path

import cxr
from cxr.cli import (  # importing a module adds its verbs to the application
    analyses,  # noqa: F401
    appraisals,  # noqa: F401
    groups,
    models,  # noqa: F401
    runs,
    services,  # noqa: F401
)
from cxr.cli.app import app
from cxr.cli.terminal import run_command


def run_core() -> None:
    """Run the verbs that need neither Prefect nor Great Expectations."""
    app.command(runs.train, group=groups.TRAINING)
    run_command(app.meta)


def main() -> None:
    """Run the `cxr` command: in a checkout with the verbs of `flows.cli`, elsewhere like `run_core`."""
    checkout = Path(cxr.__file__).parents[1]
    if not (checkout / "prefect.yaml").is_file():
        run_core()
    sys.path.insert(0, str(checkout))  # ahead of anybody else's `flows`, `tasks` or `app`
    importlib.import_module("flows.cli")  # the composition root: the one place where the core reaches up
    run_command(app.meta)
