"""Packages that tests damage, and packages of a few kilobytes."""

from pathlib import Path

from cxr.storage import files
from cxr.storage.files import sha256_of
from cxr.storage.model_folder import PackageFolder


def replace(path: Path, data: bytes) -> None:
    """Put a new file in the place of one that may be a hard link."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def sign(folder: PackageFolder) -> None:
    """Write the checksums again to match the files, as a forger would."""
    files = sorted(path for path in folder.path.iterdir() if path != folder.checksums)
    replace(folder.checksums, "".join(f"{sha256_of(file)}  {file.name}\n" for file in files).encode())


def light_package(original: PackageFolder, models: Path, version: str = "1", **facts: object) -> PackageFolder:
    """Make version of the model `tiny` with what a package says of itself, and a few bytes in the place of weights."""
    folder = PackageFolder(models / "tiny" / version)
    folder.path.mkdir(parents=True)
    for path in original.path.iterdir():
        is_large = path.suffix == ".safetensors"
        data = f"the weights of {path.name}".encode() if is_large else path.read_bytes()
        (folder.path / path.name).write_bytes(data)
    described = files.read_json(folder.description) | {"version": version} | facts
    files.write_json(folder.description, described)
    sign(folder)
    return folder
