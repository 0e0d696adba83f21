"""The endpoint before its model has a champion: it is up, says that it has no model, and refuses all else.

A service that starts with the machine would otherwise end and be started again until the first model is packaged. The
socket listens all the time: what asks while the model is loaded waits for it.
"""

import asyncio
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from cxr.endpoint.answers import Answer
from cxr.endpoint.guard import OPEN, Guard
from cxr.endpoint.listener import Listener
from cxr.endpoint.server import make_server

LOOKS_EVERY_S = 2.0
"""Seconds between two looks for the champion."""
RETRY_AFTER_S = 60


def wait_for_champion(listener: Listener, has_champion: Callable[[], bool], sentence: str) -> None:
    """Answer requests with a sentence until there is a champion; a signal ends this process.

    Args:
        listener: where, and whom; it listens afterwards as before.
        has_champion: whether there is one; what it raises ends the wait.
        sentence: why no request is answered yet.
    """
    app = Guard(_refuse_with(sentence), listener, lambda *_: None, [OPEN])
    asyncio.run(_serve_until(has_champion, make_server(app), listener))


def _refuse_with(sentence: str) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == OPEN:
            await Answer({"status": "no model"})(scope, receive, send)
        else:
            refusal = Answer({"detail": sentence}, 503, {"Retry-After": str(RETRY_AFTER_S)})
            await refusal(scope, receive, send)

    return answer


async def _serve_until(has_champion: Callable[[], bool], server: uvicorn.Server, listener: Listener) -> None:
    """Serve on a copy of the socket, as uvicorn closes what it served on."""
    serving = asyncio.create_task(server.serve([listener.socket.dup()]))
    try:
        while not serving.done() and not has_champion():
            await asyncio.wait([serving], timeout=LOOKS_EVERY_S)
    finally:
        server.should_exit = True
        await serving
