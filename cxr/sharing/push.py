"""Writes a packaged model to another place, where it never changes any more than here."""

import tempfile
from pathlib import Path

from cxr.errors import PackageError
from cxr.serving.package import Package
from cxr.sharing.place import Place
from cxr.sharing.progress import show_progress
from cxr.storage.model_folder import is_file_of_package
from cxr.storage.run_folder import SUMS


def push(package: Package, place: Place) -> bool:
    """Write a version to a place; return whether it was not there yet.

    If it is killed, what it leaves there is not taken for a package, and the same push starts again.

    Args:
        package: the version, whose files are verified to be unchanged.
        place: the place.

    Raises:
        PackageError: another package of that name and version is there, or files that are of no package.
        ConfigError: the place cannot be used.
    """
    sizes = {path.name: path.stat().st_size for path in package.folder.path.iterdir()}
    with place.held(package.name, package.version):
        present = place.sizes(package.name, package.version)
        if SUMS in present:
            _require_same(package, place, present == sizes)
            return False
        leftovers = sorted(present.keys() - sizes)
        _require_files_of_package(package, place, leftovers)
        show_progress("pushed", place.write(package.folder, package.name, leftovers), sizes)
    return True


def _require_same(package: Package, place: Place, has_same_files: bool) -> None:
    """Raise PackageError unless the version that is at the place is this package, and whole."""
    with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        place.fetch(package.name, package.version, SUMS, Path(folder))
        there = (Path(folder) / package.name / package.version / SUMS).read_bytes()
    if there != package.folder.checksums.read_bytes():
        raise PackageError(
            f"{place.address!r} has another package as version {package.version} of {package.name!r}, which is never "
            "overwritten: push to another place."
        )
    if not has_same_files:
        raise PackageError(
            f"version {package.version} of {package.name!r} in {place.address!r} is damaged: its files are not those "
            "that were pushed. Remove its folder there, and push again."
        )


def _require_files_of_package(package: Package, place: Place, leftovers: list[str]) -> None:
    strange = [name for name in leftovers if not is_file_of_package(name)]
    if strange:
        raise PackageError(
            f"{strange[0]!r} in {package.name}/{package.version} of {place.address!r} is of no package: remove it, or "
            "push to another place."
        )
