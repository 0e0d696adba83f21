"""Small disks, to be filled."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def disk_of(size: str, folder: Path) -> Iterator[Path]:
    """Mount a disk of a size such as 200k at `folder`, which must not exist; skip the test without root."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # a file may still be mapped


def resize_disk(folder: Path, size: str) -> None:
    """Change the size of a disk that `disk_of` mounted."""
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)
