"""Values of options that no command can use, refused before one begins: one sentence with the option and the value.

A `Path` takes any text: an empty one means the working folder, a mistyped URL a folder of that name, and a file in the
place of a folder shows when hours of work are to be written into it. Cyclopts calls `require_usable` with the words as
they were typed; what only the command can know (is this a run, a model, an image?) it says itself.
"""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from cyclopts import UNSET, App, ArgumentCollection

from cxr.errors import ConfigError

FOLDERS = {
    "--experiments",
    "--appraisals",
    "--models",
    "--cache",
    "--scores",
    "--services",
    "--out",
    "--dicom-out",
    "OUT",
    "INBOX",
}
FILES = {"--tolerances"}
NAMES = {
    "--data",
    "--labels",
    "--describe",
    "--weights",
    "--external",
    "--images",
    "IMAGES",
    "FILE",
    "RUN",
    "FIRST",
    "SECOND",
    "MORE",
    "DESTINATION",
    "SOURCE",
}
"""What may be a path, or something else, or a file that the verb has its own words for."""
STORE = (r"sqlite:///.+|https?://.+", "sqlite:///FILE or the http address of a server")
ADDRESSES = {
    "--notify": (r"https?://.+", "the address of a webhook, http://… or https://…"),
    "--store": STORE,
    "--mlflow": STORE,
}
"""What a value has to look like, and that in words."""
MAY_BE_EMPTY = {"--notify"}
"""Compose sets the variable for it to nothing where there is none."""
HAS_TO_EXIST = {
    "--experiments": {
        "evaluate",
        "learning-curve",
        "mlflow",
        "package",
        "report",
        "retrain",
        "runs",
        "stress",
        "train-fold",
    },
    "--images": {"recalibrate"},
    "--models": {
        *("explain", "feedback", "models", "package push", "promote", "recalibrate", "retrain", "rollback", "score"),
        "serve",
    },
}
"""The folders that verbs list or read: where one is mistyped, nothing in it is no answer."""
RANGES = {
    "--seed": (0, 2**31 - 1),
    "--images": (1, 10_000_000),
    "--opacity": (0, 1),
    "--prevalence": (0, 1),
    "--share": (0, 1),
    "--refer": (0, 0.5),
    "--redo-fold": (0, 19),
    "FOLD": (0, 19),
    "--port": (0, 65535),
    "--page-port": (0, 65535),
    "--endpoint-port": (0, 65535),
    "--max-images": (1, 1000),
    "--max-mb": (1, 1024),
    "--timeout": (1, 3600),
}
"""Least and most of numbers that no config checks."""
LONGEST_NAME = 255
LONGEST_PATH = 4095
SHOWN = 80
NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


def require_usable(_: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Raise ConfigError for the first value of a command line that its option cannot have.

    Args:
        commands: the verb, if any.
        arguments: of the verb, with the words that were typed.
    """
    for argument in arguments:
        for token in argument.tokens:
            if token.implicit_value is UNSET:  # a flag such as --promote has no value of its own
                _require_usable_value(argument.name, token.value, " ".join(commands))


def _require_usable_value(name: str, value: str, verb: str) -> None:
    _require_text(name, value)
    has_to_exist = verb in HAS_TO_EXIST.get(name, ())
    is_folder = name in FOLDERS or has_to_exist  # --images is a number elsewhere
    if is_folder or name in FILES | NAMES:
        _require_path(name, value)
    if is_folder and not (name == "--images" and Path(value).is_file()):  # an archive, which the verb opens
        _require_folder(name, value, has_to_exist=has_to_exist)
    if name in FILES and not Path(value).is_file():
        raise ConfigError(f"{name} {_shown(value)} is no file: give one that exists.")
    if name in ADDRESSES and value.strip():
        _require_address(name, value, *ADDRESSES[name])
    if name in RANGES and not is_folder:
        _require_range(name, value, *RANGES[name])


def _require_text(name: str, value: str) -> None:
    if not value.strip() and name not in MAY_BE_EMPTY:
        raise ConfigError(f"{name} is empty: give a value, or leave it out.")
    if "\0" in value:
        raise ConfigError(f"{name} has a NUL byte, which no name can have, got {_shown(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{name} has bytes that are not UTF-8, got {_shown(value)}: rename it.") from error


def _require_path(name: str, value: str) -> None:
    scheme = re.match(r"([a-z][a-z0-9+.-]*)://?", value)
    if scheme and name in FOLDERS and scheme[1] != "s3":
        raise ConfigError(f"{name} is a folder or a URL s3://bucket/…, got {_shown(value)}.")
    if name in FOLDERS and re.fullmatch(r"s3:/*", value):
        raise ConfigError(f"{name} names no bucket, got {_shown(value)}: give s3://bucket/folder.")
    lengths = [len(part.encode()) for part in value.split("/")]
    if max(lengths) > LONGEST_NAME or len(value.encode()) > LONGEST_PATH:
        raise ConfigError(f"{name} is too long for a path ({len(value)} characters), got {_shown(value)}.")


def _require_folder(name: str, value: str, *, has_to_exist: bool) -> None:
    if value.startswith("s3:"):
        return
    path = Path(value)
    nearest = _nearest(name, value, [path, *path.absolute().parents])
    if not nearest.is_dir():
        raise ConfigError(f"{name} {_shown(value)} is no folder: {_shown(str(nearest))} is a file.")
    if not os.access(nearest, os.R_OK | os.X_OK):
        raise ConfigError(f"{name} {_shown(value)} cannot be read: {_shown(str(nearest))} is closed to this user.")
    if has_to_exist and nearest != path:
        raise ConfigError(f"{name} {_shown(value)} does not exist: give a folder that does, or leave it out.")


def _nearest(name: str, value: str, paths: Iterable[Path]) -> Path:
    """Return the first of the paths that exists."""
    for path in paths:
        try:
            path.stat()
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise ConfigError(f"{name} {_shown(value)} cannot be used: {error.strerror}.") from error
        else:
            return path
    return Path("/")


def _require_address(name: str, value: str, pattern: str, words: str) -> None:
    if not re.fullmatch(pattern, value):
        raise ConfigError(f"{name} must be {words}, got {_shown(value)}.")


def _require_range(name: str, value: str, least: int, most: int) -> None:
    try:
        number = float(value)
    except ValueError:
        return  # Cyclopts says which type it wants
    if not least <= number <= most:
        raise ConfigError(f"{name} must lie between {least} and {most}, got {value}.")


def _shown(value: str) -> str:
    """Return a value as messages quote it, cut in its middle if it is long."""
    return repr(value if len(value) <= SHOWN else f"{value[: SHOWN // 2]}…{value[-SHOWN // 4 :]}")
