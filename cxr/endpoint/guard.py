"""What every request passes through: token and host name on its way in, counts and a line of the log on its way out.

A line is a JSON object with the path, the status, milliseconds, numbers of files, and reasons of refusals. No name, no
content and no address of a client is in it: paths that do not exist and methods of other protocols are `other`.
"""

import hmac
import json
import logging
import time
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr.endpoint.answers import Answer
from cxr.endpoint.listener import Listener
from cxr.storage import files

log = logging.getLogger(__name__)

OPEN = "/health"
"""The path that needs no token: it says that the endpoint is up, and nothing else."""
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
CLIENT_LEFT = 499
"""The status that is counted where nobody waits for the answer any more."""
OTHER = "other"


class Guard:
    """The outermost layer of the application.

    Args:
        app: what answers.
        listener: which requests are answered.
        count: is called with the path, the status and the seconds of each.
        paths: those that exist.
    """

    def __init__(
        self, app: ASGIApp, listener: Listener, count: Callable[[str, int, float], object], paths: Collection[str]
    ) -> None:
        self._app = app
        self._listener = listener
        self._count = count
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        facts: dict[str, Any] = {"status": 500}
        scope.setdefault("state", {})["facts"] = facts

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts["status"] = message["status"]
            await send(message)

        start = time.perf_counter()
        try:
            await (self._refusal(scope) or self._app)(scope, receive, send_on)
        except ClientDisconnect:
            facts["status"] = CLIENT_LEFT
        except Exception as error:
            facts["failure"] = _place(error)
            await Answer({"detail": "the endpoint failed; its log says where."}, 500)(scope, receive, send_on)
        finally:
            self._note(scope, facts, time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> Answer | None:
        """Return the answer to a request that does not reach the application; None for others."""
        headers = Headers(scope=scope)
        if not self._listener.answers_to(headers.get("host", "")):
            return Answer({"detail": "this endpoint answers to 127.0.0.1 and localhost alone: send that as Host."}, 400)
        token = self._listener.token
        given = headers.get("authorization", "")
        if token is None or scope["path"] == OPEN or hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return None
        sentence = "send the header `Authorization: Bearer TOKEN` with the token of this endpoint."
        return Answer({"detail": sentence}, 401, {"WWW-Authenticate": "Bearer"})

    def _note(self, scope: Scope, facts: dict[str, Any], seconds: float) -> None:
        path = scope["path"] if scope["path"] in self._paths else OTHER
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self._count(path, facts["status"], seconds)
        line = {"at": files.now(), "method": method, "path": path, "ms": round(1000 * seconds, 1)}
        log.log(logging.ERROR if "failure" in facts else logging.INFO, "%s", json.dumps(line | facts))


def _place(error: Exception) -> str:
    """Return what failed and where; not the error's text, which may quote a name."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
