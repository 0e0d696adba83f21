"""A place where packages are kept for other machines: a folder, a bucket, or a repository of the Hugging Face Hub.

It is laid out as `models/` is: `NAME/VERSION/` has the files of a version, and `SHA256SUMS` among them, written last or
in one step with them. Without it there is no package. So what a killed push leaves behind is never taken for one.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from cxr.errors import ConfigError
from cxr.sharing.file_place import FilePlace
from cxr.sharing.hub import HUB, Hub
from cxr.storage.model_folder import PackageFolder

FORMS = "a folder, s3://bucket/folder or hf://owner/repository[@revision]"
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):/")


class Place(Protocol):
    """What a folder, a bucket and a repository of the Hub have in common."""

    @property
    def address(self) -> str:
        """The place as the user typed it."""
        ...

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model that are there, oldest first."""
        ...

    def sizes(self, name: str, version: str) -> dict[str, int | None]:
        """Return the size in bytes of each file of a version, by its name; None for what is no plain file."""
        ...

    def fetch(self, name: str, version: str, file: str, folder: Path) -> None:
        """Copy a file to `folder`/NAME/VERSION/ on this machine."""
        ...

    def held(self, name: str, version: str) -> AbstractContextManager[None]:
        """Keep other pushes of the model out of the place inside the block, where it knows locks."""
        ...

    def write(self, package: PackageFolder, name: str, leftovers: list[str]) -> Iterator[str]:
        """Write a version, so that it is there when all of it is; yield each file's name when it is written.

        Args:
            package: its folder on this machine.
            name: of the model.
            leftovers: files of a push that was killed, which are not among the version's own; they are removed.
        """
        ...


def open_place(address: str, option: str) -> Place:
    """Return the place that a user names, whether anything is there or not.

    Args:
        address: a folder, `s3://bucket/folder` or `hf://owner/repository[@revision]`.
        option: what the user calls it, for errors.

    Raises:
        ConfigError: it is none of these, or what is needed to reach it is not installed; or the bucket cannot be
            reached.
    """
    if hub := HUB.fullmatch(address):
        return Hub(address, hub["repository"], hub["revision"])
    scheme = SCHEME.match(address)
    if scheme and (scheme[1] != "s3" or not address.startswith("s3://") or not address[len("s3://") :].strip("/")):
        raise ConfigError(f"{option} must be {FORMS}, got {address!r}.")
    return FilePlace.at(address, option)
