"""The labels of `cxr feedback`: tables, read as for training, whose rows are joined to scored images."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from cxr.classes import Classes
from cxr.errors import ConfigError
from cxr.feedback.matching import IMAGE_ID, ScoredImages
from cxr.feedback.scored import ScoredFiles
from cxr.labelling import LabelTables
from cxr.labels.matching import UID
from cxr.labels.model_classes import resolve_for
from cxr.labels.tables import read_tables

IDENTIFIERS: dict[str, re.Pattern[str]] = {"image_id": IMAGE_ID, "SOPInstanceUID": UID}
"""Columns that name the image without being asked, where they hold what their name says."""


@dataclass(frozen=True)
class Given:
    """What tables say of scored images."""

    rows: pd.DataFrame
    """One row for each image: image_id, label, patient_id (a keyed hash; missing where unknown)."""
    unmatched: list[str]
    """What names no scored image, in the tables' order."""
    source: str
    """The tables' names."""
    sha256: str
    """Of the tables' bytes, in hexadecimal."""


def read_labels(
    labelling: LabelTables, scored: pd.DataFrame, files: ScoredFiles, classes: Classes, key: Callable[[], bytes]
) -> Given:
    """Return the labels of scored images.

    Args:
        labelling: which tables, and what their columns mean; rows may always name images that are not scored.
        scored: the published scores, as `read_scored` returns them.
        files: behind them.
        classes: of the model.
        key: returns the key of the patients' hashes.

    Raises:
        ConfigError: no table is given, it is not there, or an option leaves open what has to be said.
        DataError: no row names a scored image, a row names two, a table contradicts itself, or a label is none of the
            classes.
    """
    if not labelling.labels:
        raise ConfigError("name the table of labels: cxr feedback LABELS --name NAME.")
    images = ScoredImages(scored)
    column = labelling.path_column or _identifier(labelling, files)
    labelling = replace(labelling, path_column=column, missing_films="allow")
    resolved = resolve_for(classes, labelling, files, scored["key"].unique().tolist(), key, images.find)
    facts = resolved.images
    rows = pd.DataFrame(
        {
            "image_id": [images.image_id(str(name)) for name in facts.index],
            "label": facts["label"].to_numpy(),
            "patient_id": facts["patient_id"].to_numpy(),
        }
    )
    hashes = [table["sha256"] for table in resolved.tables]
    sha256 = hashes[0] if len(hashes) == 1 else hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    return Given(rows, images.unmatched, ", ".join(table["name"] for table in resolved.tables), sha256)


def _identifier(labelling: LabelTables, files: ScoredFiles) -> str | None:
    """Return the column that holds the images' ids or UIDs under their own name; None if there is none."""
    for table in read_tables(labelling.labels, files, labelling.header):
        for name, pattern in IDENTIFIERS.items():
            values = table.rows[name].dropna() if name in table.rows else pd.Series(dtype="str")
            if len(values) and values.str.fullmatch(pattern).all():
                return name
    return None
