"""Which verbs there are: all of them for `cxr`; those of the core alone for `python -m cxr`."""

from cxr import application
from cxr.cli import groups
from cxr.cli.app import app
from cxr.cli.terminal import run_command
from cxr.cli.verbs import (  # importing a module adds its verbs to the application
    analyses,  # noqa: F401
    appraisals,  # noqa: F401
    comparisons,  # noqa: F401
    data,  # noqa: F401
    folds,  # noqa: F401
    models,  # noqa: F401
    runs,  # noqa: F401
    scoring,  # noqa: F401
    services,  # noqa: F401
    sharing,  # noqa: F401
    training,
)


def run_core() -> None:
    """Run the verbs that need neither Prefect nor Great Expectations."""
    app.command(training.train, group=groups.TRAINING)
    run_command(app.meta)


def main() -> None:
    """Run the `cxr` command: the core's verbs, and those of `flows.cli`."""
    application.load("flows.cli")
    run_command(app.meta)
