"""The labels of `cxr recalibrate`: images of another site, each with its class and, if known, its patient.

Tables of labels are read as for training (`cxr.labels`), and a label that is none of the model's classes is refused: a
label that is guessed would be fitted.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from cxr.classes import Classes
from cxr.dataset.listing.layout import kinds_of
from cxr.errors import ConfigError, DataError
from cxr.images.dicom.patient import patient_key
from cxr.images.source import Source, open_source
from cxr.labelling import Labelling, LabelTables
from cxr.labels.model_classes import resolve_for
from cxr.storage.files import require_local


@dataclass(frozen=True)
class Labels:
    """What tables say of the images of another site."""

    rows: pd.DataFrame
    """Columns path (in the source), label, patient_id (a keyed hash; empty where unknown)."""
    source: Source
    """Holds the images."""
    sha256: str
    """Of the tables' bytes, in hexadecimal."""
    identity: str
    """Hash of all that the rows follow from: of the tables, and of what the options make of them."""


def read_labels(labelling: LabelTables, images: Path | None, classes: Classes, cache: Path) -> Labels:
    """Return the rows of the tables, one for each image.

    Args:
        labelling: which tables, and what their columns mean.
        images: folder or archive that holds the images; None for the folder of the first table.
        classes: of the model.
        cache: holds the key of the patients' hashes.

    Raises:
        ConfigError: no table is given, it is not there, or an option leaves open what has to be said.
        DataError: a table contradicts itself or the images, or a label is none of the classes.
    """
    if not labelling.reads_tables:
        raise ConfigError("a recalibration needs labels: give --labels FILE, with a path and a label in each row.")
    root = images or Path(next(iter(labelling.labels), ".")).expanduser().parent
    require_local("--images", root)
    if not root.exists():
        raise ConfigError(f"--images {str(root)!r} is no folder: give the one that the paths are relative to.")
    source = _open(root)
    files = sorted(key for key, kind in kinds_of(source).items() if kind is None)
    resolved = resolve_for(classes, labelling, source, files, partial(patient_key, cache))
    facts = resolved.images.sort_index().rename_axis("path").reset_index()
    rows = facts[["path", "label"]].assign(patient_id=facts["patient_id"].fillna(""))
    hashes = [table["sha256"] for table in resolved.tables]
    sha256 = hashes[0] if len(hashes) == 1 else hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    is_plain = labelling.alone() == Labelling(labels=labelling.labels) and len(hashes) == 1
    return Labels(rows, source, sha256, sha256 if is_plain else resolved.sha256)


def _open(root: Path) -> Source:
    try:
        return open_source(str(root))
    except DataError as error:
        raise ConfigError(f"--images {str(root)!r} is neither a folder nor an archive of images.") from error
