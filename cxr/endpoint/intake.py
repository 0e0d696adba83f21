"""Bodies of requests, received within the limits: bytes of each, bytes of all together, number of images, and time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import HTTPException, Request

from cxr.endpoint.bodies import Upload, body_of
from cxr.endpoint.limits import Limits

AGAIN = {"Retry-After": "1"}
"""Headers of an answer to a request that may be sent again in a second."""


class Intake:
    """Receives bodies, and knows how many bytes all requests together hold.

    Args:
        limits: what a request may ask for.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._n_held = 0

    @asynccontextmanager
    async def receive(self, request: Request, field: str, most: int, deadline: float) -> AsyncIterator[list[Upload]]:
        """Yield the files of a request, one or more; forget them when the block ends.

        Args:
            request: not received yet.
            field: the name that each part of a form has.
            most: number of files, at most.
            deadline: for receiving them, by the clock of the event loop.

        Raises:
            HTTPException: 400, 408, 413, 415, 422 or 429, as the limits and the media type have it.
        """
        body = body_of(request.headers.get("content-type", ""), field, most)
        self._require_length(request.headers.get("content-length", "0"))
        n_mine = 0
        try:
            async with before(deadline, 408, "the request did not arrive whole in time: send fewer images in each."):
                async for piece in request.stream():
                    n_mine += len(piece)
                    self._n_held += len(piece)
                    self._require_room(n_mine)
                    body.feed(piece)
            yield body.finish()
        finally:
            self._n_held -= n_mine

    def _require_length(self, length: str) -> None:
        """Refuse a body that is announced to be too large before it is sent."""
        if length.isdecimal():
            self._require_bytes(int(length))

    def _require_bytes(self, n_bytes: int) -> None:
        if n_bytes > self.limits.n_bytes:
            raise HTTPException(413, f"the request has more than {self.limits.max_mb} MiB: send fewer images in each.")

    def _require_room(self, n_bytes: int) -> None:
        self._require_bytes(n_bytes)
        if self._n_held > self.limits.n_bytes_at_once:
            raise HTTPException(429, "too many images are being received: send the request again later.", AGAIN)


@asynccontextmanager
async def before(deadline: float, status: int, sentence: str) -> AsyncIterator[None]:
    """End the block at a deadline, and the request with it.

    Args:
        deadline: by the clock of the event loop.
        status: of the answer if the block has not ended by then.
        sentence: of that answer.
    """
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise HTTPException(status, sentence, AGAIN) from error
