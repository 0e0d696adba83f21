"""An endpoint of the tests' own, served by uvicorn in a thread, on a free port of the loopback address."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from cxr.endpoint.application import build
from cxr.endpoint.limits import Limits
from cxr.endpoint.listener import listen
from cxr.endpoint.server import make_server
from cxr.endpoint.service import Service
from cxr.serving.package import Package
from cxr.serving.predictor import Predictor
from tests.support.processes import wait_for


@dataclass(frozen=True)
class Served:
    """An endpoint that answers."""

    client: httpx.Client
    """Sends the token, if there is one."""
    service: Service


def client_of(address: str, **headers: str) -> httpx.Client:
    """Return a client that knows of no proxy."""
    return httpx.Client(base_url=address, timeout=60, trust_env=False, headers=headers)


@contextmanager
def served(
    package: Package,
    cache: Path,
    *,
    limits: Limits = Limits(),  # noqa: B008 it is frozen
    token: str | None = None,
) -> Iterator[Served]:
    """Serve a model inside the block."""
    listener = listen("127.0.0.1", 0, token)
    service = Service(Predictor(package, device="cpu", compile="off", cache=cache))
    server = make_server(build(service, limits, listener, service.warm_up()))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener.socket]})
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    thread.start()
    try:
        wait_for(lambda: server.started, "the endpoint")
        with client_of(listener.address, **headers) as client:
            yield Served(client, service)
    finally:
        server.should_exit = True
        thread.join()
        service.close()
