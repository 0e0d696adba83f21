"""Packages that tests damage."""

from pathlib import Path

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
