"""Which columns of a table of predictions are labels: the class of each image, or its findings.

Findings are read as those of a training are (`cxr.labels.meanings`): each is present, absent or unknown in an image,
and what a value means is asked for where nobody has said it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cxr.classes import FINDING
from cxr.dataset.findings import as_columns, describe_findings
from cxr.errors import ConfigError, DataError
from cxr.labelling import Labelling
from cxr.labels.columns import require_column
from cxr.labels.meanings import finding_of_column, findings_of
from cxr.labels.rows import first_groups
from cxr.labels.tables import Table
from cxr.prediction_columns import PredictionColumns

LABELS = ("label", "target", "y_true", "true_label")
"""Names of columns that are found by themselves, whatever their letter case."""
PATTERN = "label"
"""The column that `--value` names where --label-pattern finds the labels."""


@dataclass(frozen=True)
class Labels:
    """The labels of each row."""

    column: str | None
    """The column with the class, or with all findings; None if it is no column of its own."""
    known: pd.DataFrame
    """Column label, missing where blank; of several findings also a nullable boolean finding_<name> for each."""
    columns_of_findings: dict[str, str] | None = None
    """The column of each finding's label; None for classes."""

    @property
    def is_blank(self) -> pd.Series:
        """Whether nothing is known of each row: neither its class nor any of its findings."""
        findings = [name for name in self.known if str(name).startswith(FINDING)]
        return self.known[findings or ["label"]].isna().all(axis=1)


def find_labels(table: Table, path: str, columns: PredictionColumns) -> Labels:
    """Return the labels in a table: findings if options or the names of columns say so, else classes.

    Args:
        table: one row per image.
        path: the column that names the image.
        columns: which columns mean what.

    Raises:
        ConfigError: a column is missing, or an option has to say what a value means.
        DataError: there are no labels where they should be.
    """
    by_finding = _columns_of_findings(table, columns)
    if columns.separator is None and not by_finding:
        return _classes(table, path, columns)
    if columns.positive is not None:
        raise ConfigError(
            f"--positive is for one label per image, and {table.name!r} has several findings: leave it out, or say "
            "with --label-column which column holds one label."
        )
    return _findings(table, columns, by_finding)


def find_column(table: Table, given: str | None, standard: Sequence[str], flag: str) -> str | None:
    """Return the column that an option names, or the only one with a standard name; None if there is none.

    Raises:
        ConfigError: the column is not in the table, or several have standard names.
    """
    if given is not None:
        require_column(given, [table])
        return given
    found = [name for name in (named(table, name) for name in standard) if name is not None]
    if len(found) > 1:
        raise ConfigError(
            f"the columns {' and '.join(map(repr, found))} of {table.name!r} may both be meant: give {flag}."
        )
    return found[0] if found else None


def named(table: Table, name: str) -> str | None:
    """Return the column with a name in lower case, whatever its own letter case; None if there is none."""
    return next((str(column) for column in table.rows if str(column).casefold() == name), None)


def _columns_of_findings(table: Table, columns: PredictionColumns) -> dict[str, str]:
    """Return the column of each finding, by finding; empty where labels are in one column or in paths."""
    if columns.label_column or columns.label_pattern:
        return {}
    given = columns.columns_of_findings or [(name, name) for name in map(str, table.rows) if name.startswith(FINDING)]
    for _, column in given:
        require_column(column, [table])
    names = [name.removeprefix(FINDING) for name, _ in given]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--label-columns names finding {twice!r} twice: give each finding one column.")
    by_finding = dict(zip(names, (column for _, column in given), strict=True))
    require_own_columns(by_finding)
    return by_finding


def require_own_columns(by_finding: Mapping[str, str]) -> None:
    """Raise ConfigError if two findings are read from the same column."""
    for name, column in by_finding.items():
        first = next(other for other in by_finding if by_finding[other] == column)
        if first != name:
            raise ConfigError(
                f"column {column!r} is given to the findings {first!r} and {name!r}: each has a column of its own."
            )


def _findings(table: Table, columns: PredictionColumns, by_finding: dict[str, str]) -> Labels:
    labelling = Labelling(
        labels=(table.name,),
        label_column=columns.label_column,
        separator=columns.separator,
        value=columns.value,
        uncertain=columns.uncertain,
        blank=columns.blank,
    )
    if columns.label_column:
        require_column(columns.label_column, [table])
    _require_labels(columns, [columns.label_column] if columns.label_column else by_finding.values())
    if by_finding:
        read = {name: finding_of_column(table.rows[column], labelling) for name, column in by_finding.items()}
        known = pd.DataFrame(read, table.rows.index)
    else:
        known = findings_of(table.rows, labelling, None)
        if known.empty:
            raise DataError(f"column {columns.label_column!r} names no finding: give the --label-column that does.")
        by_finding = dict.fromkeys(map(str, known), str(columns.label_column))
    known = as_columns(known)
    label = describe_findings(known)
    return Labels(columns.label_column, pd.concat([label.rename("label"), known], axis=1), by_finding)


def _classes(table: Table, path: str, columns: PredictionColumns) -> Labels:
    if columns.uncertain is not None or columns.blank == "negative":
        option = f"--uncertain {columns.uncertain}" if columns.uncertain is not None else "--blank negative"
        raise ConfigError(
            f"{option} is for findings, and each image of {table.name!r} has one label: leave it out, or give the "
            "columns of findings with --label-columns."
        )
    if columns.label_pattern:
        name, values = None, first_groups(columns.label_pattern, table.rows[path])
        if values.isna().all():
            raise DataError(
                f"--label-pattern {columns.label_pattern!r} is found in no path, such as {table.rows[path].iloc[0]!r}."
            )
    else:
        name = find_column(table, columns.label_column, LABELS, "--label-column")
        if name is None:
            raise ConfigError(
                f"no column of {table.name!r} is named {', '.join(LABELS[:-1])} or {LABELS[-1]}: give --label-column, "
                "--label-columns, --label-pattern, or --labels FILE."
            )
        values = table.rows[name]
    _require_labels(columns, [name or PATTERN])
    wanted = {of: meaning for (_, of), meaning in columns.meanings.items()}
    labels = values.replace(wanted) if wanted else values
    is_blank = labels.isna()
    if is_blank.any() and columns.blank is None:
        raise DataError(
            f"{is_blank.sum():,} of {len(labels):,} rows have no label, such as "
            f"{table.rows[path][is_blank].iloc[0]!r}: complete them, or give --blank mask, which leaves them out and "
            "counts them."
        )
    return Labels(name, labels.rename("label").to_frame())


def _require_labels(columns: PredictionColumns, names: Collection[str]) -> None:
    """Raise ConfigError if the meaning of a value is given for a column that holds no label."""
    for column, _ in columns.meanings:
        if column not in (*names, "*"):
            which = ", ".join(map(repr, list(names)[:6]))
            raise ConfigError(f"--value {column}:… is about another column than the label, {which}: correct it.")
