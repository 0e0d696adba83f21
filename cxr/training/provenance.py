"""What computed a run: versions, and hashes of the source and the lock file."""

import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import cxr

LIBRARIES = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "pillow")
SOURCES = (".py", ".j2", ".toml")
"""Suffixes of the package's files that a result depends on: code, templates, tables."""


def code_provenance() -> dict[str, Any]:
    """Return versions, and hashes of all of `cxr`'s source and of `requirements.lock`, None outside a checkout."""
    package = Path(cxr.__file__).parent
    parts = sorted(path for path in package.rglob("*") if path.suffix in SOURCES)
    source = hashlib.sha256(b"".join(path.read_bytes() for path in parts))
    lock = package.parent / "requirements.lock"
    return {
        "cxr": cxr.__version__,
        "cxr_source_sha256": source.hexdigest(),
        "requirements_lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{library: importlib.metadata.version(library) for library in LIBRARIES},
    }
