"""A table of predictions that another program made, read into the columns of the out-of-fold table.

Three forms are read: one probability for each class, one logit for each class, or the probability of one of two
classes. Whatever would have to be guessed (which class a column belongs to, which of two columns is the label) is an
error that names the option. Nothing is repaired: an image that is predicted twice, a value that is no probability, or a
class without images ends the command.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.classes import Classes
from cxr.dataset.folds import assign_at_random
from cxr.dataset.listing.labels import order_classes
from cxr.dataset.prediction_outputs import find_outputs
from cxr.errors import ConfigError, DataError
from cxr.labels.columns import require_column
from cxr.labels.covariates import subgroup_levels
from cxr.labels.facts import SUBGROUP
from cxr.labels.matching import match_files
from cxr.labels.patients import hash_patients
from cxr.labels.rows import first_groups
from cxr.labels.tables import Table, read_table
from cxr.prediction_columns import PredictionColumns

PATHS = ("path", "image_path", "filepath", "file_path", "filename", "file_name", "file", "image", "image_name")
IMAGE_ID = "image_id"
LABELS = ("label", "target", "y_true", "true_label")
PATIENTS = ("patient_id", "patient", "group_id")
"""Names of columns that are found by themselves, whatever their letter case."""
PATTERN = "label"
"""The column that `--value` names where --label-pattern finds the labels."""
N_PARTS = 5
"""Parts that images without folds are divided into, for calibration and thresholds; fewer where a class has fewer
patients."""
WHOLE = r"\d{1,6}(\.0+)?"


@dataclass(frozen=True)
class Predictions:
    """Predictions as the out-of-fold table of a run holds them, and what was read."""

    table: pd.DataFrame
    """Columns image_id, path, group_id, fold (missing if unknown), part, split, subgroup_<name>, label, subtype
    (missing), logit_<class>, probability_<class>; ordered by path."""
    classes: Classes
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
    label_column, labels = _labels(table, path, columns)
    is_blank = labels.isna()
    if is_blank.any() and columns.blank is None:
        raise DataError(
            f"{is_blank.sum():,} of {len(labels):,} rows have no label, such as "
            f"{table.rows[path][is_blank].iloc[0]!r}: complete them, or give --blank mask, which leaves them out and "
            "counts them."
        )
    if is_blank.all():
        raise DataError(f"no row of {source.name!r} has a label: give --label-column, --label-pattern or --labels.")
    table, labels = replace(table, rows=table.rows[~is_blank]), labels[~is_blank]
    outputs = find_outputs(table, labels, columns, path)
    facts, found = _facts(table, path, columns, key)
    classes = Classes(order_classes(outputs.names, columns.positive or outputs.single))
    known = facts.assign(label=labels, subtype=pd.Series(None, facts.index, "str"))
    images = pd.concat([known, outputs.table(classes)], axis=1).sort_values("path", ignore_index=True)
    images.insert(4, "part", _parts(images))
    read = {
        "source": {"name": source.name, "sha256": source.sha256},
        "labels": None if listed is None else {"name": listed.name, "sha256": listed.sha256},
        "columns": {"path": path, "label": label_column, "label_pattern": columns.label_pattern, **found},
        "outputs": {"kind": outputs.kind, "columns": dict(outputs.columns)},
        "value": list(columns.value),
        "images": {"rows": len(is_blank), "without_label": int(is_blank.sum()), "used": len(images)},
        "n_certain": outputs.n_certain,
    }
    return Predictions(images, classes, read | _counts(images, classes, is_named=found["patient"] is not None))


def _path_column(table: Table, columns: PredictionColumns) -> str:
    found = _column(table, columns.path_column, PATHS, "--path-column") or _named(table, IMAGE_ID)
    if found is None:
        raise ConfigError(
            f"no column of {table.name!r} has a name that stands for an image ({', '.join((*PATHS, IMAGE_ID))}): give "
            "--path-column."
        )
    return found


def _named(table: Table, name: str) -> str | None:
    return next((str(column) for column in table.rows if str(column).casefold() == name), None)


def _column(table: Table, given: str | None, standard: Sequence[str], flag: str) -> str | None:
    """Return the column that an option names, or the only one with a standard name; None if there is none.

    Raises:
        ConfigError: the column is not in the table, or several have standard names.
    """
    if given is not None:
        require_column(given, [table])
        return given
    found = [name for name in (_named(table, name) for name in standard) if name is not None]
    if len(found) > 1:
        raise ConfigError(
            f"the columns {' and '.join(map(repr, found))} of {table.name!r} may both be meant: give {flag}."
        )
    return found[0] if found else None


def _with_labels(source: Table, path: str, listed: Table, columns: PredictionColumns) -> Table:
    """Return the predictions with the columns of another table, whose rows name the same images."""
    own = path if path in listed.rows else _path_column(listed, PredictionColumns())
    _require_one_row_each(listed.rows[own].dropna(), own)
    paths = source.rows[path].dropna().unique().tolist()
    found = match_files(listed.rows[own].dropna().tolist(), paths)
    rows = listed.rows.assign(**{path: listed.rows[own].map(found)}).dropna(subset=path)
    missing = sorted(set(paths) - set(rows[path]))
    if missing and columns.blank is None:
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


def _labels(table: Table, path: str, columns: PredictionColumns) -> tuple[str | None, pd.Series]:
    """Return the column of the labels, if they are in one, and the class of each image, missing where blank."""
    if columns.label_pattern:
        name, values = None, first_groups(columns.label_pattern, table.rows[path])
        if values.isna().all():
            raise DataError(
                f"--label-pattern {columns.label_pattern!r} is found in no path, such as {table.rows[path].iloc[0]!r}."
            )
    else:
        name = _column(table, columns.label_column, LABELS, "--label-column")
        if name is None:
            raise ConfigError(
                f"no column of {table.name!r} is named {', '.join(LABELS[:-1])} or {LABELS[-1]}: give --label-column, "
                "--label-pattern, or --labels FILE."
            )
        values = table.rows[name]
    for column, _ in columns.meanings:
        if column not in (name or PATTERN, "*"):
            raise ConfigError(
                f"--value {column}:… is about another column than the label, {name or PATTERN!r}: correct it."
            )
    wanted = {of: meaning for (_, of), meaning in columns.meanings.items()}
    return name, values.replace(wanted) if wanted else values


def _facts(
    table: Table, path: str, columns: PredictionColumns, key: Callable[[], bytes]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return what is known of each image beside label and outputs, and the columns that it was read from."""
    rows = table.rows
    image_id = _named(table, IMAGE_ID)
    ids = rows[path] if image_id is None else rows[image_id]
    if ids.isna().any() or ids.duplicated().any():
        raise DataError(f"column {image_id!r} must hold another id for each image: correct it, or take it out.")
    patient = _column(table, columns.patient_column, PATIENTS, "--patient-column")
    fold = _column(table, columns.fold_column, ("fold",), "--fold-column")
    split = _column(table, columns.split_column, ("split",), "--split-column")
    named = columns.subgroup_column or [str(name) for name in rows if str(name).startswith(SUBGROUP)]
    groups = ids
    if patient is not None:
        hashed = hash_patients(rows[patient], key)
        groups = hashed.fillna(ids)
    facts = {"image_id": ids, "path": rows[path], "group_id": groups, "fold": _folds(rows, fold)}
    facts["split"] = rows[split] if split else pd.Series(None, rows.index, "str")
    for name in named:
        require_column(name, [table])
        facts[SUBGROUP + name.removeprefix(SUBGROUP)] = subgroup_levels(rows[name].rename(name.removeprefix(SUBGROUP)))
    found = {"patient": patient, "fold": fold, "split": split, "subgroups": list(named)}
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


def _parts(images: pd.DataFrame) -> pd.Series:
    """Return the part that each image is calibrated and thresholded without: its fold, or one at random."""
    if images["fold"].notna().all():
        return images["fold"].astype("int32")
    n_groups = images.groupby("label")["group_id"].nunique()
    if n_groups.min() < 2:
        raise DataError(
            f"class {n_groups.idxmin()!r} has images of one patient alone: calibration and thresholds are judged on "
            "other patients than they are fitted to, which takes two or more of each class."
        )
    n_parts = min(N_PARTS, int(n_groups.min()))
    return pd.Series(assign_at_random(images, n_parts, seed=0), images.index)


def _counts(images: pd.DataFrame, classes: Classes, *, is_named: bool) -> dict[str, Any]:
    """Return the classes and how many images, patients and folds there are.

    Args:
        images: as in `Predictions`.
        classes: in output order.
        is_named: whether a column names patients.
    """
    has_folds = bool(images["fold"].notna().all())
    without = images["group_id"] == images["image_id"]
    of_folds = images.groupby("group_id")["fold"].nunique()
    return {
        "classes": list(classes),
        "positive": classes.positive,
        "n_images_per_class": {name: int((images["label"] == name).sum()) for name in classes},
        "n_groups": int(images["group_id"].nunique()),
        "n_patients": int(images.loc[~without, "group_id"].nunique()) if is_named else None,
        "n_images_without_patient": int(without.sum()),
        "n_patients_in_several_folds": int((of_folds > 1).sum()) if has_folds else None,
        "n_folds": int(images["fold"].nunique()) if has_folds else None,
        "n_parts": int(images["part"].nunique()),
    }
