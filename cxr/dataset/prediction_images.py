"""What a table of predictions says of its images beside labels and outputs: ids, patients, folds, splits, subgroups.

Where folds are unknown, images are divided into parts at random, so that calibration and thresholds are judged on other
patients than they are fitted to.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd

from cxr.classes import Classes, Findings
from cxr.dataset.findings import assign_by_findings, count_findings
from cxr.dataset.folds import assign_at_random
from cxr.dataset.prediction_labels import find_column, named
from cxr.errors import DataError
from cxr.labels.columns import require_column
from cxr.labels.covariates import subgroup_levels
from cxr.labels.facts import SUBGROUP
from cxr.labels.patients import hash_patients
from cxr.labels.tables import Table
from cxr.prediction_columns import PredictionColumns

IMAGE_ID = "image_id"
PATIENTS = ("patient_id", "patient", "group_id")
"""Names of columns that are found by themselves, whatever their letter case."""
WITHIN = (
    "calibration and thresholds are judged on other patients than they are fitted to, which takes two or more of each"
)
N_PARTS = 5
"""Parts that images without folds are divided into, for calibration and thresholds; fewer where a class has fewer
patients."""
WHOLE = r"\d{1,6}(\.0+)?"


def facts_of_images(
    table: Table, path: str, columns: PredictionColumns, key: Callable[[], bytes]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return what is known of each image beside label and outputs, and the columns that it was read from.

    Args:
        table: one row per image.
        path: the column that names the image.
        columns: which columns mean what.
        key: returns the secret that patient ids are hashed with.

    Returns:
        Columns image_id, path, group_id, fold (missing if unknown), split and subgroup_<name>; and the name of the
        column of each, None where there is none.

    Raises:
        ConfigError: a column is missing.
        DataError: an image has no id of its own, or no number of a fold.
    """
    rows = table.rows
    image_id = named(table, IMAGE_ID)
    ids = rows[path] if image_id is None else rows[image_id]
    if ids.isna().any() or ids.duplicated().any():
        raise DataError(f"column {image_id!r} must hold another id for each image: correct it, or take it out.")
    patient = find_column(table, columns.patient_column, PATIENTS, "--patient-column")
    fold = find_column(table, columns.fold_column, ("fold",), "--fold-column")
    split = find_column(table, columns.split_column, ("split",), "--split-column")
    subgroups = columns.subgroup_column or [str(name) for name in rows if str(name).startswith(SUBGROUP)]
    groups = ids
    if patient is not None:
        hashed = hash_patients(rows[patient], key)
        groups = hashed.fillna(ids)
    facts = {"image_id": ids, "path": rows[path], "group_id": groups, "fold": _folds(rows, fold)}
    facts["split"] = rows[split] if split else pd.Series(None, rows.index, "str")
    for name in subgroups:
        require_column(name, [table])
        facts[SUBGROUP + name.removeprefix(SUBGROUP)] = subgroup_levels(rows[name].rename(name.removeprefix(SUBGROUP)))
    found = {"patient": patient, "fold": fold, "split": split, "subgroups": list(subgroups)}
    return pd.DataFrame(facts, index=rows.index), found


def _folds(rows: pd.DataFrame, name: str | None) -> pd.Series:
    """Return the fold of each image; all missing without a column, or with one fold alone."""
    unknown = pd.Series(pd.NA, rows.index, "Int32")
    if name is None:
        return unknown
    values = rows[name]
    wrong = values[~values.str.fullmatch(WHOLE).fillna(False).astype(bool)]
    if len(wrong):
        raise DataError(
            f"column {name!r} must number the fold of each image (0, 1, 2, …), got {wrong.iloc[0]!r} in {len(wrong):,} "
            f"of {len(values):,} rows: correct it, or take it out."
        )
    numbers = pd.to_numeric(values).astype("Int32")
    return unknown if numbers.nunique() == 1 else numbers


def parts_of(images: pd.DataFrame, names: Classes | Findings) -> pd.Series:
    """Return the part that each image is calibrated and thresholded without: its fold, or one at random.

    Args:
        images: columns image_id, group_id, fold and label, and finding_<name> of several findings.
        names: of the classes or findings.

    Raises:
        DataError: a class is of one patient alone, or a finding is present or absent in too few.
    """
    has_folds = bool(images["fold"].notna().all())
    if isinstance(names, Findings):
        _require_both(images, least=1 if has_folds else 2)
    if has_folds:
        return images["fold"].astype("int32")
    if isinstance(names, Findings):
        n_parts = min(N_PARTS, images["group_id"].nunique())
        return pd.Series(assign_by_findings(images, n_parts, seed=0), images.index)
    n_groups = images.groupby("label")["group_id"].nunique()
    if n_groups.min() < 2:
        raise DataError(f"class {n_groups.idxmin()!r} has images of one patient alone: {WITHIN}.")
    n_parts = min(N_PARTS, int(n_groups.min()))
    return pd.Series(assign_at_random(images, n_parts, seed=0), images.index)


def _require_both(images: pd.DataFrame, least: int) -> None:
    """Raise DataError if a finding is present, or absent, in images of fewer than `least` patients."""
    for name, counts in count_findings(images).items():
        for state in ("present", "absent"):
            n_images, n_groups = counts[f"n_{state}"], counts[f"n_groups_{state}"]
            if not n_images:
                raise DataError(
                    f"finding {name!r} is {state} in no image, so it cannot be appraised: add images, or leave it "
                    "out of --label-columns."
                )
            if n_groups < least:
                raise DataError(f"finding {name!r} is {state} in images of one patient alone: {WITHIN}.")
