"""How the page is served: by Streamlit, on this machine's loopback address.

It sends no usage statistics, answers to no foreign host name, refuses files above MAX_UPLOAD_MB and writes none.
Ctrl-C and SIGTERM end it.
"""

import importlib.util
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from cxr.errors import ConfigError
from cxr.storage import files

ADDRESS = "127.0.0.1"
MAX_UPLOAD_MB = 64
"""Larger files belong in an inbox; a chest image as DICOM has 10 to 30 MB."""
OPTIONS = {
    "server.address": ADDRESS,
    "server.fileWatcherType": "none",
    "server.headless": "true",
    "server.maxUploadSize": str(MAX_UPLOAD_MB),
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.toolbarMode": "viewer",
    "logger.hideWelcomeMessage": "true",
    "theme.light.primaryColor": "#00629b",  # the reports' blue, darker: it is text on a tint of itself
    "theme.light.textColor": "#111111",  # captions have 60% of it: a contrast of 5 where the default has 3.9
    "theme.dark.primaryColor": "#56b4e9",
}
HOSTS = (ADDRESS, "localhost")
"""The host names that the page answers to, so that no foreign web page can reach it under a name of its own."""


@dataclass(frozen=True)
class Folders:
    """The folders that the page reads."""

    experiments: Path = Path("experiments")
    models: Path = Path("models")
    scores: Path = Path("scores")
    cache: Path = Path("cache")

    def as_arguments(self) -> list[str]:
        """Return the arguments that `from_arguments` reads.

        Raises:
            ConfigError: a folder other than that of the runs is in an object store.
        """
        for name in ("models", "scores", "cache"):
            files.require_local(f"--{name}", getattr(self, name))
        return [f"--{field.name}={files.located(getattr(self, field.name).expanduser())}" for field in fields(self)]

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> "Folders":
        """Return the folders that arguments name, the others at their defaults."""
        given = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
        return cls(**{name: Path(path) for name, path in given.items()})


def prepare(folders: Folders, port: int) -> tuple[str, list[str]]:
    """Return the page's address and the command that serves it; `/_stcore/health` answers `ok` once it is up.

    Args:
        folders: need not exist.
        port: on the loopback address; 0 takes any that is free.

    Raises:
        ConfigError: the extra is not installed, or the port is taken or out of range.
    """
    for library in ("streamlit", "plotly"):
        if importlib.util.find_spec(library) is None:
            raise ConfigError(f"the page needs {library}, which is not installed: install cxr with the extra [page].")
    port = _free_port(port)
    options = [f"--{name}={value}" for name, value in (OPTIONS | {"server.port": str(port)}).items()]
    options += [f"--server.allowedHosts={host}" for host in HOSTS]
    streamlit, script = (str(Path(__file__).with_name(name)) for name in ("streamlit_server.py", "launcher.py"))
    command = [sys.executable, streamlit, "run", script, *options, "--", *folders.as_arguments()]
    return f"http://{ADDRESS}:{port}", command


def _free_port(port: int) -> int:
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port must lie between 0 and 65535, got {port}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} cannot be used ({error.strerror}): give another one, or --port 0 for any free port."
            ) from error
        return probe.getsockname()[1]
