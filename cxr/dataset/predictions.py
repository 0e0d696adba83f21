"""A table of predictions that another program made, read into the columns of the out-of-fold table.

Four forms are read: one probability for each class, one logit for each class, the probability of one of two classes,
and, of several findings per image, a probability or a logit for each finding. Whatever would have to be guessed (which
class a column belongs to, which of two columns is the label) is an error that names the option. Nothing is repaired: an
image that is predicted twice, a value that is no probability, or a class without images ends the command.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.classes import Classes, Findings
from cxr.dataset.findings import assign_by_findings, count_by_class, count_findings
from cxr.dataset.folds import assign_at_random
from cxr.dataset.listing.labels import order_classes
from cxr.dataset.prediction_labels import Labels, find_column, find_labels, named
from cxr.dataset.prediction_outputs import Outputs, find_outputs, find_outputs_of_findings
from cxr.errors import ConfigError, DataError
from cxr.labels.columns import require_column
from cxr.labels.covariates import subgroup_levels
from cxr.labels.facts import SUBGROUP
from cxr.labels.matching import match_files
from cxr.labels.patients import hash_patients
from cxr.labels.tables import Table, read_table
from cxr.prediction_columns import PredictionColumns

PATHS = ("path", "image_path", "filepath", "file_path", "filename", "file_name", "file", "image", "image_name")
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


@dataclass(frozen=True)
class Predictions:
    """Predictions as the out-of-fold table of a run holds them, and what was read."""

    table: pd.DataFrame
    """Columns image_id, path, group_id, fold (missing if unknown), part, split, subgroup_<name>, label, subtype
    (missing), finding_<name> of several findings, logit_<class>, probability_<class>; ordered by path."""
    outputs: Classes | Findings
    facts: dict[str, Any]
    """Which file and columns were read, and counts."""


def read_predictions(file: Path, columns: PredictionColumns, key: Callable[[], bytes]) -> Predictions:
    """Return the predictions in a table.

    Args:
        file: csv, tsv, txt, jsonl, parquet or xlsx, also compressed with gzip.
        columns: which of its columns mean what.
        key: returns the key that patient ids are hashed with; it is asked if there are ids.

    Raises:
        ConfigError: a column is missing, or an option has to say what it means.
        DataError: the table holds what cannot be appraised.
    """
    source = read_table(file, "FILE")
    path = _path_column(source, columns)
    listed = read_table(Path(columns.labels), "--labels") if columns.labels else None
    table = source if listed is None else _with_labels(source, path, listed, columns)
    _require_one_row_each(table.rows[path], path)
    labels = find_labels(table, path, columns)
    is_known = ~labels.is_blank
    if not is_known.any():
        raise DataError(f"no row of {source.name!r} has a label: give --label-column, --label-pattern or --labels.")
    known = labels.known[is_known]
    outputs, names = _outputs(replace(source, rows=source.rows[is_known]), labels, known, columns, path, listed)
    facts, found = _facts(replace(table, rows=table.rows[is_known]), path, columns, key)
    known.insert(1, "subtype", pd.Series(None, known.index, "str"))
    images = pd.concat([facts, known, outputs.table(names)], axis=1).sort_values("path", ignore_index=True)
    images.insert(4, "part", _parts(images, names))
    read = {
        "source": {"name": source.name, "sha256": source.sha256},
        "labels": None if listed is None else {"name": listed.name, "sha256": listed.sha256},
        "columns": {"path": path, "label": labels.column, "label_pattern": columns.label_pattern, **found},
        "findings": _of_findings(images, labels, columns),
        "outputs": {"kind": outputs.kind, "columns": dict(outputs.columns)},
        "value": list(columns.value),
        "images": {"rows": len(is_known), "without_label": int((~is_known).sum()), "used": len(images)},
        "n_certain": outputs.n_certain(names),
    }
    return Predictions(images, names, read | _counts(images, names, is_named=found["patient"] is not None))


def _outputs(
    source: Table, labels: Labels, known: pd.DataFrame, columns: PredictionColumns, path: str, listed: Table | None
) -> tuple[Outputs, Classes | Findings]:
    """Return the outputs in the table of predictions, and their names in output order.

    Args:
        source: the predictions of the images that have a label.
        labels: of all images.
        known: the labels of these images.
        columns: which columns mean what.
        path: the column that names the image.
        listed: the other table, if labels are in one: columns that it has are no labels in `source`.
    """
    if labels.columns_of_findings is None:
        outputs = find_outputs(source, known["label"], columns, path)
        return outputs, Classes(order_classes(outputs.names, columns.positive or outputs.single))
    elsewhere = () if listed is None else listed.rows.columns
    taken = set(labels.columns_of_findings.values()) - set(elsewhere)
    outputs = find_outputs_of_findings(source, list(labels.columns_of_findings), taken, columns, path)
    return outputs, Findings(outputs.names)


def _of_findings(images: pd.DataFrame, labels: Labels, columns: PredictionColumns) -> dict[str, Any] | None:
    """Return how labels of findings were read, and counts; None for classes."""
    if labels.columns_of_findings is None:
        return None
    how = {"separator": columns.separator, "uncertain": columns.uncertain, "blank": columns.blank}
    return {"columns": labels.columns_of_findings, **how, "counts": count_findings(images)}


def _path_column(table: Table, columns: PredictionColumns) -> str:
    found = find_column(table, columns.path_column, PATHS, "--path-column") or named(table, IMAGE_ID)
    if found is None:
        raise ConfigError(
            f"no column of {table.name!r} has a name that stands for an image ({', '.join((*PATHS, IMAGE_ID))}): give "
            "--path-column."
        )
    return found


def _with_labels(source: Table, path: str, listed: Table, columns: PredictionColumns) -> Table:
    """Return the predictions with the columns of another table, whose rows name the same images."""
    own = path if path in listed.rows else _path_column(listed, PredictionColumns())
    _require_one_row_each(listed.rows[own].dropna(), own)
    paths = source.rows[path].dropna().unique().tolist()
    found = match_files(listed.rows[own].dropna().tolist(), paths)
    rows = listed.rows.assign(**{path: listed.rows[own].map(found)}).dropna(subset=path)
    missing = sorted(set(paths) - set(rows[path]))
    if missing and columns.blank != "mask":
        raise DataError(
            f"{len(missing):,} of {len(paths):,} images are not in {listed.name!r}, such as {missing[0]!r}: add them, "
            "or give --blank mask, which leaves out images without a label and counts them."
        )
    kept = [name for name in source.rows if name == path or name not in rows]
    return replace(source, rows=source.rows[kept].merge(rows, on=path, how="left"))


def _require_one_row_each(paths: pd.Series, column: str) -> None:
    if paths.isna().any():
        raise DataError(f"column {column!r} is blank in {paths.isna().sum():,} rows: each prediction needs its image.")
    twice = paths[paths.duplicated(keep=False)]
    n_twice = twice.nunique()
    if n_twice:
        raise DataError(
            f"each image needs one row; {n_twice:,} {'has' if n_twice == 1 else 'have'} more, such as "
            f"{twice.iloc[0]!r} with {(paths == twice.iloc[0]).sum()}: give its mean prediction, or the --path-column "
            "that tells the rows apart."
        )


def _facts(
    table: Table, path: str, columns: PredictionColumns, key: Callable[[], bytes]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return what is known of each image beside label and outputs, and the columns that it was read from."""
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


def _parts(images: pd.DataFrame, names: Classes | Findings) -> pd.Series:
    """Return the part that each image is calibrated and thresholded without: its fold, or one at random."""
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


def _counts(images: pd.DataFrame, names: Classes | Findings, *, is_named: bool) -> dict[str, Any]:
    """Return the classes or findings, and how many images, patients and folds there are.

    Args:
        images: as in `Predictions`.
        names: of the outputs, in their order.
        is_named: whether a column names patients.
    """
    has_folds = bool(images["fold"].notna().all())
    without = images["group_id"] == images["image_id"]
    of_folds = images.groupby("group_id")["fold"].nunique()
    if isinstance(names, Findings):
        per_class = count_by_class(images)
    else:
        per_class = {name: int((images["label"] == name).sum()) for name in names}
    return {
        "classes": list(names),
        "positive": names.positive,
        "n_images_per_class": per_class,
        "n_groups": int(images["group_id"].nunique()),
        "n_patients": int(images.loc[~without, "group_id"].nunique()) if is_named else None,
        "n_images_without_patient": int(without.sum()),
        "n_patients_in_several_folds": int((of_folds > 1).sum()) if has_folds else None,
        "n_folds": int(images["fold"].nunique()) if has_folds else None,
        "n_parts": int(images["part"].nunique()),
    }
