"""What the test processes share: a folder is made by the first that needs it, and the others wait for it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

NewFolder = Callable[[str], Path]
"""Makes an empty folder, of a name like this, that is removed after the last test of the module."""


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder of this name, which all test processes of this session have in common; do not write into it.

    Args:
        factory: of this process's temporary folders.
        name: of the folder.
        make: fills an empty folder; called once, in whichever process comes first.
    """
    base = factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    root.mkdir(exist_ok=True)
    folder, is_made = root / name, root / f"{name}.made"
    with FileLock(root / f"{name}.lock"):
        if not is_made.exists():
            folder.mkdir()  # fails if another process began to make it and could not
            make(folder)
            is_made.touch()
    return folder
