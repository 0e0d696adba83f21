import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi import HTTPException, Request

from cxr.endpoint.intake import Intake
from cxr.endpoint.limits import AT_ONCE, Limits
from cxr.serving.package import Package
from tests.support.endpoint import Served, served

MIB = 2**20


def request_of(data: bytes) -> Request:
    """A request whose body has arrived."""

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": data, "more_body": False}

    return Request({"type": "http", "headers": [(b"content-type", b"image/png")]}, receive)


def test_all_requests_together_hold_no_more_than_their_share_of_the_memory() -> None:
    async def fill() -> None:
        intake = Intake(Limits(max_mb=1))
        deadline = asyncio.get_running_loop().time() + 60

        async def enter(stack: AsyncExitStack) -> None:
            await stack.enter_async_context(intake.receive(request_of(bytes(MIB)), "images", 1, deadline))

        async with AsyncExitStack() as stack:
            for _ in range(AT_ONCE):
                await enter(stack)
            with pytest.raises(HTTPException, match="too many images are being received") as refusal:
                await enter(stack)
            assert refusal.value.status_code == 429
        async with AsyncExitStack() as stack:
            await enter(stack)

    asyncio.run(fill())


def test_a_request_of_more_bytes_is_refused_announced_or_not(endpoint: Served) -> None:
    def pieces() -> Iterator[bytes]:
        yield from [bytes(MIB // 4)] * 5

    headers = {"Content-Type": "image/png"}
    for body in (bytes(MIB + 1), pieces()):
        answer = endpoint.client.post("/predict", content=body, headers=headers)
        assert (answer.status_code, answer.json()["detail"][:40]) == (413, "the request has more than 1 MiB: send fe")
    assert endpoint.client.post("/predict", content=bytes(MIB), headers=headers).status_code == 200


def test_a_request_that_arrives_too_slowly_is_refused(package: Package, home: Path) -> None:
    with served(package, home / "cache", limits=Limits(timeout=0.3)) as endpoint:
        url = urlsplit(str(endpoint.client.base_url))
        start = time.monotonic()
        with socket.create_connection((str(url.hostname), int(url.port or 0)), timeout=30) as connection:
            head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n"
            connection.sendall(head.encode() + b"slow")
            answer = connection.recv(4096).decode()
        assert time.monotonic() - start < 20
        assert answer.startswith("HTTP/1.1 408 ")
        assert "retry-after: 1" in answer
        assert endpoint.client.get("/health").status_code == 200
