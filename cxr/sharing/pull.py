"""Takes a packaged model up from another place, as the next version here, and never as champion.

All of it arrives in a hidden folder first. Every file is held against `SHA256SUMS`, which has to name exactly the files
that are there, and the package against itself; a package of which one byte differs is refused. A version is known by
its name and number, so what was pulled gets the number that is next here, in `package.json` and in the card, beside
where it comes from. Its other files stay as they are, to the byte.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from cxr.errors import DiskFullError, PackageError
from cxr.export.description import describe
from cxr.export.versions import add_version
from cxr.serving.package import Package, load_package
from cxr.sharing.place import Place
from cxr.sharing.progress import MB, show_progress
from cxr.storage import files, verified
from cxr.storage.model_folder import ModelFolder, PackageFolder, is_file_of_package
from cxr.storage.run_folder import SUMS

LARGEST_SUMS = 1_000_000
"""Bytes; a package has a few dozen files."""
OWN = ("name", "version", "pulled")
"""What `package.json` says of a version, and not of what is in it."""


def pull(place: Place, model: ModelFolder, version: str | None) -> PackageFolder:
    """Write a version of a place as the next version of the model of that name, unless it has the same; return it.

    Args:
        place: the place.
        model: with the name that the model has there.
        version: its number there; None for the highest.

    Raises:
        PackageError: there is no such package, or it is damaged, or holds what no package holds.
        DiskFullError: the disk has less space than it needs.
        ConfigError: the place cannot be used.
    """
    known = place.versions(model.name)
    if not known:
        raise PackageError(f"no package of {model.name!r} in {place.address!r}: `cxr package push` puts one there.")
    if version is not None and version not in known:
        raise PackageError(
            f"{place.address!r} has no version {version!r} of {model.name!r}; it has {', '.join(known)}."
        )
    there = version or known[-1]
    sizes = _sizes(place, model.name, there)
    _require_space(model, sum(sizes.values()))
    with files.locked(model.arriving_lock, f"the pull of {model.name}"), _empty(model.arriving) as folder:
        arrived = PackageFolder(folder / model.name / there)
        _fetch(place, arrived, sizes)
        package = _load(place, arrived)
        origin = {
            "from": place.address,
            "version": there,
            "sha256sums": package.file_hash,
            "at": files.now(),
        }
        return add_version(model, partial(_is_same, package), partial(_write, package, origin))


def _sizes(place: Place, name: str, version: str) -> dict[str, int]:
    """Return the size of each file of a version; raise PackageError for what no package holds."""
    sizes = {}
    for file, size in place.sizes(name, version).items():
        if size is None or not is_file_of_package(file):
            raise _refused(place, name, version, f"{file!r} is no file that a package holds")
        sizes[file] = size
    if sizes[SUMS] > LARGEST_SUMS:
        raise _refused(place, name, version, f"{SUMS} has {sizes[SUMS]:,} bytes, more than any package")
    return sizes


def _require_space(model: ModelFolder, n_bytes: int) -> None:
    nearest = next(path for path in model.path.parents if path.is_dir())
    free = shutil.disk_usage(nearest).free
    if n_bytes > free:
        raise DiskFullError(
            f"the package has {n_bytes / MB:,.0f} MB, and {str(nearest)!r} has space for {free / MB:,.0f}: free some."
        )


@contextmanager
def _empty(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which is removed afterwards; so is what a killed pull left of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch(place: Place, arrived: PackageFolder, sizes: Mapping[str, int]) -> None:
    """Copy a version's files here, and hold each against `SHA256SUMS` when it arrives."""
    name, version = arrived.path.parent.name, arrived.version
    folder = arrived.path.parents[1]
    place.fetch(name, version, SUMS, folder)
    sums = verified.recorded(arrived.path)
    if verified.as_text(sums).encode() != arrived.checksums.read_bytes():
        raise _refused(place, name, version, f"{SUMS} was changed")
    for file in sorted(sums.keys() ^ (sizes.keys() - {SUMS})):
        raise _refused(place, name, version, f"{file!r} {'is missing' if file in sums else 'was added'}")

    def fetched() -> Iterator[str]:
        for file, digests in sums.items():
            place.fetch(name, version, file, folder)
            if files.sha256_of(arrived.path / file) not in digests:
                raise _refused(place, name, version, f"{file!r} was changed")
            yield file

    show_progress("pulled", fetched(), sizes)


def _load(place: Place, arrived: PackageFolder) -> Package:
    try:
        return load_package(arrived)
    except PackageError as error:
        raise _refused(place, arrived.path.parent.name, arrived.version, str(error)) from error


def _refused(place: Place, name: str, version: str, fault: str) -> PackageError:
    return PackageError(
        f"version {version} of {name!r} in {place.address!r} is refused: {fault.rstrip('.')}. Nothing was taken up; "
        "push it again from where it was made, or take another version."
    )


def _is_same(package: Package, folder: PackageFolder, facts: Mapping[str, Any]) -> bool:
    """Return whether a version here has the content of a package, under whatever name and number."""
    return _content(package.folder, package.facts) == _content(folder, facts)


def _content(folder: PackageFolder, facts: Mapping[str, Any]) -> tuple[verified.Sums, str]:
    """Return the hashes of the files that no version number is in, and everything else that package.json says."""
    described = (folder.description.name, folder.card.name)
    sums = {name: digests for name, digests in verified.recorded(folder.path).items() if name not in described}
    return sums, json.dumps({name: value for name, value in facts.items() if name not in OWN}, sort_keys=True)


def _write(package: Package, origin: Mapping[str, Any], folder: PackageFolder, version: str) -> None:
    """Write every file of the pulled version into its folder, given the version's number here."""
    described = (package.folder.description.name, package.folder.card.name, SUMS)
    for path in package.folder.path.iterdir():
        if path.name not in described:
            files.link(path, folder.path / path.name)
    try:
        describe(folder, package.facts | {"version": version, "pulled": origin})
    except (TemplateError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise PackageError(
            f"the package.json of {package.name!r} from {origin['from']!r} makes no model card ({error}): nothing was "
            "taken up; push it again from where it was made."
        ) from error
