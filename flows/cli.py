"""The `cxr` command: the core's verbs, and those that run as Prefect flows or start services."""

from cxr.cli.main import app  # which has the core's verbs
from flows.verbs import (  # importing a module adds its verbs to the application
    demo,  # noqa: F401
    scoring,  # noqa: F401
    services,  # noqa: F401
    training,  # noqa: F401
)

__all__ = ["app"]
