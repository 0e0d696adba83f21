"""Packages in a model repository of the Hugging Face Hub, through its own client library.

A push is one commit, so that all of a version is there or nothing; files that a killed push has uploaded belong to no
commit. Beside the version's folder it holds `README.md`, a copy of the model card, which the Hub shows. A pull reads
one commit from beginning to end, whatever is pushed meanwhile.

Needs the extra `cxr[hub]`. Address and token are huggingface_hub's: HF_ENDPOINT, HF_TOKEN, or `hf auth login`.
"""

import importlib.util
import re
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cxr import __version__
from cxr.errors import ConfigError, CxrError
from cxr.storage.model_folder import PackageFolder
from cxr.storage.run_folder import SUMS

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB = re.compile(r"hf://(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w-][\w./-]*))?", re.ASCII)
"""The address of a repository, and of a branch, tag or commit of it."""
MAIN = "main"


class Hub:
    """A repository of the Hub with packages, laid out as `models/` is.

    Args:
        address: as the user typed it.
        repository: `owner/name`.
        revision: branch, tag or commit; None for the main branch.

    Raises:
        ConfigError: huggingface_hub is not installed.
    """

    def __init__(self, address: str, repository: str, revision: str | None) -> None:
        if importlib.util.find_spec("huggingface_hub") is None:
            raise ConfigError(f"{address} needs huggingface_hub: install cxr with the extra [hub].")
        self.address = address
        self._repository = repository
        self._revision = revision or MAIN

    @cached_property
    def _api(self) -> "HfApi":
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()  # a line or a bar of this program tells of each file
        return HfApi(library_name="cxr", library_version=__version__)

    @cached_property
    def _commit(self) -> str | None:
        """The commit that is read, and that a push goes on from; None if there is no such repository."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._talking():
            try:
                return self._head()
            except RepositoryNotFoundError:
                return None

    def _head(self) -> str | None:
        return self._api.model_info(self._repository, revision=self._revision).sha

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model that are there, oldest first.

        Raises:
            ConfigError: there is no such repository, or no such revision of it; or the Hub cannot be reached.
        """
        if self._commit is None:
            raise ConfigError(
                f"the Hub has no repository {self._repository!r}, or does not show it to you: check its name, and log "
                "in if it is private (`hf auth login`, or HF_TOKEN)."
            )
        found = (path.split("/") for path in self._tree(name))
        numbers = sorted(int(parts[1]) for parts in found if parts[2:] == [SUMS] and parts[1].isdecimal())
        return [str(number) for number in numbers]

    def sizes(self, name: str, version: str) -> dict[str, int | None]:
        """Return the size in bytes of each file of a version, by its name; None for what is no plain file."""
        sizes = self._tree(f"{name}/{version}")
        return {path.removeprefix(f"{name}/{version}/"): size for path, size in sizes.items()}

    def _tree(self, folder: str) -> dict[str, int | None]:
        """Return the size of each file below a folder, by its path; None for a folder."""
        from huggingface_hub.errors import EntryNotFoundError

        if self._commit is None:
            return {}
        with self._talking():
            try:
                entries = list(
                    self._api.list_repo_tree(self._repository, folder, revision=self._commit, recursive=True)
                )
            except EntryNotFoundError:
                return {}
        return {entry.path: getattr(entry, "size", None) for entry in entries}

    def fetch(self, name: str, version: str, file: str, folder: Path) -> None:
        """Copy a file to `folder`/NAME/VERSION/ on this machine."""
        with self._talking():
            self._api.hf_hub_download(
                self._repository, f"{name}/{version}/{file}", revision=self._commit, local_dir=folder
            )

    def held(self, name: str, version: str) -> AbstractContextManager[None]:
        """Do nothing: a commit that does not follow the one that was read is refused by the Hub."""
        return nullcontext()

    def write(self, package: PackageFolder, name: str, leftovers: list[str]) -> Iterator[str]:
        """Upload a version's files and commit them; yield each one's name when it is uploaded.

        Raises:
            ConfigError: the Hub refuses it, or cannot be reached.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        folder = f"{name}/{package.version}"
        additions = [CommitOperationAdd(f"{folder}/{path.name}", path) for path in sorted(package.path.iterdir())]
        with self._talking():
            parent = self._commit or self._make()
            for addition in additions:
                self._api.preupload_lfs_files(self._repository, additions=[addition], revision=self._revision)
                yield addition.path_in_repo.rpartition("/")[2]
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "It seems that you are about to commit a data file", UserWarning)
                self._api.create_commit(
                    self._repository,
                    [
                        *(CommitOperationDelete(f"{folder}/{leftover}") for leftover in leftovers),
                        *additions,
                        CommitOperationAdd(package.card.name, package.card),
                    ],
                    commit_message=f"{name}, version {package.version}",
                    revision=self._revision,
                    parent_commit=parent,
                )

    def _make(self) -> str | None:
        """Make the repository, which only its owner sees; return its first commit."""
        self._api.create_repo(self._repository, private=True)
        return self._head()

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Turn what the Hub refuses, and that it cannot be reached, into ConfigError."""
        try:
            yield
        except CxrError:
            raise
        except Exception as error:  # huggingface_hub, its web client and hf_xet raise many types
            if isinstance(error, OSError) and error.errno:  # of this machine's disk
                raise
            cause = str(error.__cause__ or error).strip().partition("\n")[0]
            raise ConfigError(
                f"the Hub's repository {self._repository!r} cannot be used ({type(error).__name__}: {cause}): check "
                "its name, the network and the token (`hf auth login`, or HF_TOKEN)."
            ) from error
