"""How the endpoint is served: by uvicorn, in this process, until Ctrl-C or SIGTERM."""

import logging
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from cxr.endpoint.application import build
from cxr.endpoint.limits import Limits
from cxr.endpoint.listener import Listener
from cxr.endpoint.service import Service
from cxr.network.devices import keep_freed_memory
from cxr.serving.predictor import Predictor
from cxr.storage.scores_folder import FeedbackFolder

GRACE_S = 30
"""Seconds that requests in progress get when the endpoint is stopped."""


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return a server for the application; it logs nothing of its own, as `Guard` writes a line for each request."""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it warns of each damaged form
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    return uvicorn.Server(config)


def run(
    predictor: Predictor,
    listener: Listener,
    limits: Limits,
    announce: Callable[[], object],
    feedback: FeedbackFolder | None = None,
) -> None:
    """Answer requests until a signal ends this; requests in progress are answered first.

    Args:
        predictor: of the model that answers; used here alone.
        listener: where, and whom.
        limits: what a request may ask for.
        announce: called once the model is loaded and the first request would be answered.
        feedback: where labels that come after the scores are, for the metrics.

    Raises:
        ConfigError: this machine cannot compute as the package needs, or as was asked for.
    """
    keep_freed_memory()
    service = Service(predictor, feedback)
    try:
        app = build(service, limits, listener, service.warm_up())
        announce()
        make_server(app).run(sockets=[listener.socket])
    finally:
        service.close()
