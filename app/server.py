"""How the page is served: by Streamlit, on this machine's loopback address.

It sends no usage statistics, answers to no foreign host name, takes no file over MAX_UPLOAD_MB and writes none.
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
    "theme.light.primaryColor": "#0072b2",
    "theme.dark.primaryColor": "#56b4e9",
}
HOSTS = (ADDRESS, "localhost")
"""A name that a foreign page has made point to this machine is not answered."""


@dataclass(frozen=True)
class Folders:
    """The folders that the page reads."""

    experiments: Path = Path("experiments")
    models: Path = Path("models")
    scores: Path = Path("scores")
    cache: Path = Path("cache")

    def as_words(self) -> list[str]:
        """Return the arguments that `of` reads."""
        for name in ("models", "scores", "cache"):
            files.require_local(f"--{name}", getattr(self, name))
        return [f"--{field.name}={files.located(getattr(self, field.name).expanduser())}" for field in fields(self)]

    @classmethod
    def of(cls, words: Sequence[str]) -> "Folders":
        """Return the folders that arguments name, the others at their defaults."""
        given = dict(word.removeprefix("--").split("=", 1) for word in words)
        return cls(**{name: Path(path) for name, path in given.items()})


def prepare(folders: Folders, port: int) -> tuple[str, list[str]]:
    """Return the page's address and the command that serves it; `/_stcore/health` answers `ok` when it does.

    Args:
        places: folders, there or not.
        port: on the loopback address; 0 takes any that is free.

    Raises:
        ConfigError: the extra is not installed, or the port is taken or none.
    """
    for library in ("streamlit", "plotly"):
        if importlib.util.find_spec(library) is None:
            raise ConfigError(f"the page needs {library}, which is not here: install cxr with the extra [page].")
    port = _free_port(port)
    options = [f"--{name}={value}" for name, value in (OPTIONS | {"server.port": str(port)}).items()]
    options += [f"--server.allowedHosts={host}" for host in HOSTS]
    page = str(Path(__file__).with_name("main.py"))
    command = [sys.executable, "-m", "streamlit", "run", page, *options, "--", *folders.as_words()]
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
                f"port {port} cannot be had ({error.strerror}): give another, or --port 0 for any that is free."
            ) from error
        return probe.getsockname()[1]
