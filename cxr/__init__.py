"""Chest X-ray classification: cross-validate, package, score. The names below are the library; see `cxr.library`.

Importing `cxr` loads none of them, nor torch or pandas: each name is imported when it is first used (PEP 562).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxr.config import Execution, ScoreConfig, TrainConfig
    from cxr.errors import CxrError
    from cxr.library import Predictor, appraise, compare, cross_validate, load_champion, load_package, load_run
    from cxr.prediction_columns import PredictionColumns

__version__ = "0.2.0"

__all__ = [
    "CxrError",
    "Execution",
    "PredictionColumns",
    "Predictor",
    "ScoreConfig",
    "TrainConfig",
    "__version__",
    "appraise",
    "compare",
    "cross_validate",
    "load_champion",
    "load_package",
    "load_run",
]


def __getattr__(name: str) -> Any:
    """Return an exported name from the module that defines it, and keep it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = {"CxrError": "errors", "Execution": "config", "ScoreConfig": "config", "TrainConfig": "config"}
    home["PredictionColumns"] = "prediction_columns"
    value = getattr(importlib.import_module(f"{__name__}.{home.get(name, 'library')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
