"""What computed a run: versions, and hashes of the source and of the lock file, or of what is installed without one."""

import hashlib
import importlib.metadata
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import cxr
from cxr import application

LIBRARIES = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "pillow")
SOURCES = (".py", ".j2", ".toml")
"""Suffixes of the package's files that a result depends on: code, templates, tables."""


def code_provenance() -> dict[str, Any]:
    """Return versions, and hashes of all of `cxr`'s source and of what fixes the versions of all libraries."""
    package = Path(cxr.__file__).parent
    parts = sorted(path for path in package.rglob("*") if path.suffix in SOURCES)
    source = b"".join(path.read_bytes() for path in parts if not path.is_relative_to(package / application.CARRIED))
    return {
        "cxr": cxr.__version__,
        "cxr_source_sha256": hashlib.sha256(source).hexdigest(),
        **_fixed_libraries(package.parent / "requirements.lock"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{library: importlib.metadata.version(library) for library in LIBRARIES},
    }


def _fixed_libraries(lock: Path) -> dict[str, Any]:
    """Return the hash of the lock file; without one, as with a wheel, the installed distributions and their hash."""
    if lock.exists():
        return {"requirements_lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest()}
    installed = installed_distributions()
    digest = hashlib.sha256("\n".join(installed).encode()).hexdigest()
    return {"requirements_lock_sha256": None, "distributions_sha256": digest, "distributions": installed}


def installed_distributions() -> list[str]:
    """Return NAME==VERSION of each installed distribution; of several with a name, the first on the path counts."""
    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        with suppress(FileNotFoundError):  # from the backport of this module, if anything has imported it
            if distribution.name:  # None where an uninstallation was cut short
                versions.setdefault(distribution.name, distribution.version)
    return sorted(f"{name}=={version}" for name, version in versions.items())
