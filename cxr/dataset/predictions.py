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
from cxr.dataset.findings import count_by_class, count_findings
from cxr.dataset.listing.labels import order_classes
from cxr.dataset.prediction_images import IMAGE_ID, facts_of_images, parts_of
from cxr.dataset.prediction_labels import Labels, find_column, find_labels, named
from cxr.dataset.prediction_outputs import Outputs, find_outputs, find_outputs_of_findings
from cxr.errors import ConfigError, DataError
from cxr.labels.matching import match_files
from cxr.labels.tables import Table, read_table
from cxr.prediction_columns import PredictionColumns

PATHS = ("path", "image_path", "filepath", "file_path", "filename", "file_name", "file", "image", "image_name")
"""Names of columns that are found by themselves, whatever their letter case."""


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
    facts, found = facts_of_images(replace(table, rows=table.rows[is_known]), path, columns, key)
    known.insert(1, "subtype", pd.Series(None, known.index, "str"))
    images = pd.concat([facts, known, outputs.table(names)], axis=1).sort_values("path", ignore_index=True)
    images.insert(4, "part", parts_of(images, names))
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
