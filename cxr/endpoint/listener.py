"""Where the endpoint listens: on this machine alone, unless requests have to carry a token."""

import importlib.util
import ipaddress
import os
import re
import socket
from dataclasses import dataclass, field
from typing import Any

from cxr.errors import ConfigError

TOKEN = r"[!-~]{16,}"  # noqa: S105 a pattern
"""What a token looks like: it is sent in a header, and is not to be guessed."""
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""Without a token, the host names that the endpoint answers to: no foreign web page reaches it under its own name."""


@dataclass(frozen=True)
class Listener:
    """A socket that listens, and who may be answered there."""

    socket: socket.socket
    token: str | None = field(default=None, repr=False)
    """What requests have to carry; None if they need none."""

    @property
    def address(self) -> str:
        """The address of the endpoint, such as `http://127.0.0.1:8600`."""
        host, port, *_ = self.socket.getsockname()
        return f"http://[{host}]:{port}" if self.socket.family == socket.AF_INET6 else f"http://{host}:{port}"

    def answers_to(self, host: str) -> bool:
        """Return whether a request with this Host header is answered."""
        name = re.sub(r":\d*$", "", host).lower()
        return self.token is not None or name in LOOPBACK_NAMES or f"http://{host}" == self.address


def listen(host: str, port: int, token: str | None = None) -> Listener:
    """Return a socket that listens at an address.

    Args:
        host: name or address of an interface of this machine.
        port: 0 takes any that is free.
        token: what requests have to carry; None if they need none.

    Raises:
        ConfigError: a library is not installed, the host is unknown, the port is taken, other machines reach the
            address and there is no token, or the token is too short or cannot be sent in a header.
    """
    _require_libraries()
    if token is not None and not re.fullmatch(TOKEN, token):
        raise ConfigError("--token must have 16 or more ASCII characters and no space: give a longer one.")
    family, address = _resolve(host, port)
    if token is None and not _is_loopback(str(address[0])):
        raise ConfigError(
            f"--host {host!r} is reached from other machines: set CXR_TOKEN or give --token, which every request then "
            "has to carry, or leave --host out to listen on this machine alone."
        )
    try:
        return Listener(socket.create_server(address, family=family), token)
    except OSError as error:
        raise ConfigError(
            f"port {port} of {host!r} cannot be used ({os.strerror(error.errno or 0)}): give another --port, or "
            "--port 0 for any free port."
        ) from error


def _require_libraries() -> None:
    for library in ("fastapi", "prometheus_client", "python_multipart", "uvicorn"):
        if importlib.util.find_spec(library) is None:
            raise ConfigError(
                f"the endpoint needs {library}, which is not installed: install cxr with the extra [serve]."
            )


def _resolve(host: str, port: int) -> tuple[int, tuple[Any, ...]]:
    """Return the family and the socket address of a host."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"--host {host!r} is not known here: give an address of this machine, such as 127.0.0.1."
        ) from error
    return family, address


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
