"""The application around the core: the packages `flows`, `tasks`, `app`, `deployments` and `data_checks`.

In a checkout they lie beside `cxr`, in an installed wheel within it: nothing but `cxr` is in site-packages. They are
loaded ahead of anybody else's packages of these names, wherever those lie: in site-packages, on PYTHONPATH, or in the
folder in which a command is typed and a run works, which Prefect puts first on the path. So `prefect.yaml` names the
flows as attributes of this module: `cxr.application.train_cv`.
"""

import atexit
import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import cxr

CARRIED = "_application"
"""The folder within `cxr` that holds the application in a wheel; `hatch_build.py` puts it there."""
FLOWS = ("train_cv", "train_fold", "validate_dataset", "score_batch", "feedback", "retrain")


def is_carried() -> bool:
    """Return whether the application lies within `cxr`, as in a wheel."""
    return (Path(cxr.__file__).parent / CARRIED).is_dir()


def folder() -> Path:
    """Return the folder of the application's packages and of its `prefect.yaml`: a checkout, or a part of the wheel."""
    package = Path(cxr.__file__).parent
    return package / CARRIED if is_carried() else package.parent


def load(name: str) -> ModuleType:
    """Import a module of the application: the one place where the core reaches up."""
    if sys.path[0] != str(folder()):
        sys.path.insert(0, str(folder()))
    with quick_imports(to_stay=True):
        return importlib.import_module(name)


@contextmanager
def quick_imports(*, to_stay: bool = False) -> Iterator[None]:
    """Import large packages inside the block without Python's searches for garbage among what they make.

    Prefect and Great Expectations make a million objects that stay. Python would search all of them again each time
    that their number has grown by a quarter.

    Args:
        to_stay: if the block has imported something, never search what is there at its end, also not when the process
            ends, which alone takes more than a second. For programs of our own: what is garbage by then stays as well.
    """
    was_enabled, n_modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if to_stay and len(sys.modules) > n_modules:
            gc.freeze()
            atexit.register(_free_for_triton)
        if was_enabled:
            gc.enable()


def _free_for_triton() -> None:
    """Let the end of the process find all garbage if triton was imported, which reports what is left as leaks."""
    if "triton" in sys.modules:
        gc.unfreeze()


def __getattr__(name: str) -> Any:
    """Return the flow of this name (PEP 562)."""
    if name not in FLOWS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(load(f"flows.{name}"), name)
