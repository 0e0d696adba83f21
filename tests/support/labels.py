"""Tables of labels that tests write."""

from pathlib import Path
from typing import Any

from cxr.labelling import Labelling


def from_table(*files: Path, **options: Any) -> Labelling:
    """Return the options that read labels from tables."""
    return Labelling(labels=tuple(map(str, files)), **options)
