"""What was last said of a model by labels that came later, for those who show it: the report, the page, monitors."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxr.classes import MACRO
from cxr.storage import files
from cxr.storage.scores_folder import FeedbackFolder

ESTIMATE = ["value", "ci_low", "ci_high"]


def verdicts_of(folder: FeedbackFolder) -> list[dict[str, Any]]:
    """Return the row of `verdicts.parquet` on each version, None where a value is missing; empty if no label has come.

    It is that of the positive class; of more than two classes that of all together.

    Raises:
        DamagedError: the table is not as it was written.
    """
    return _records(_headline(files.read_table(folder.verdicts))) if folder.verdicts.exists() else []


def verdicts_by_class(folder: FeedbackFolder, version: str) -> list[dict[str, Any]]:
    """Return the verdict on each of more than two classes of a version, as `verdicts_of` does; empty for two classes.

    Raises:
        DamagedError: the table is not as it was written.
    """
    table = files.read_table(folder.verdicts, filters=[("model_version", "==", version)])
    return _records(table.drop(index=_headline(table).index))


def verdict_of(folder: FeedbackFolder, version: str) -> dict[str, Any] | None:
    """Return the verdict on a version; None if no label of its images has come."""
    return next((row for row in verdicts_of(folder) if row["model_version"] == version), None)


def performance_of(folder: FeedbackFolder, version: str) -> pd.DataFrame:
    """Return the rows of `performance.parquet` of a version; of more than two classes those of `macro`.

    Raises:
        DamagedError: the table is not as it was written.
    """
    return _headline(files.read_table(folder.performance, filters=[("model_version", "==", version)]))


def _headline(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that sum a version up; all where there are two classes, as in tables without the column."""
    is_macro = table.reindex(columns=["class"])["class"] == MACRO
    return table[is_macro] if is_macro.any() else table


def by_week(performance: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a record for each week, the latest first, and before them one for all weeks, whose week is None.

    Each has n_images, n_positive, n_patients, and by metric a tuple of value and bounds.
    """
    records: list[dict[str, Any]] = []
    for week, rows in performance.groupby("week", dropna=False, sort=True):
        estimates = zip(rows["metric"], rows[ESTIMATE].itertuples(index=False, name=None), strict=True)
        counts = {name: int(rows[name].iloc[0]) for name in ("n_images", "n_positive", "n_patients")}
        records.append({"week": None if pd.isna(week) else week} | counts | dict(estimates))
    return sorted(records, key=_latest_first, reverse=True)


def _latest_first(record: Mapping[str, Any]) -> tuple[bool, str]:
    return record["week"] is None, record["week"] or ""


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    plain = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]
