"""Which columns of the tables are used, and how several tables become one: joined on the columns that they share."""

import difflib
import logging
from collections.abc import Collection, Sequence

import pandas as pd

from cxr.errors import ConfigError, DataError
from cxr.labelling import Labelling
from cxr.labels.matching import stems, without_suffix
from cxr.labels.tables import Table

log = logging.getLogger(__name__)

SAMPLE = 200
"""Values of a column that are looked up to see whether they name files."""


def label_columns(labelling: Labelling, finding: str | None) -> list[str]:
    """Return the columns that hold the labels that are wanted.

    Args:
        labelling: which columns hold labels.
        finding: the only one that is wanted; None for all.
    """
    return [finding] if finding in labelling.label_columns else labelling.label_names


def used_columns(labelling: Labelling, tables: Sequence[Table], labels: Sequence[str]) -> list[str]:
    """Return the columns that options name, besides the path column.

    Args:
        labelling: the options.
        tables: of labels.
        labels: the columns that hold the labels that are wanted.

    Raises:
        ConfigError: a column is in no table; the nearest name is given.
    """
    excluded = [text.partition("=")[0] for text in labelling.exclude]
    single = (labelling.patient_column, labelling.split_column, labelling.view_column, labelling.weight_column)
    names = [*labels, *filter(None, single), *labelling.subgroup_column, *excluded]
    for name in dict.fromkeys((*filter(None, [labelling.path_column]), *names, *_valued(labelling))):
        require_column(name, tables)
    return list(dict.fromkeys(names))


def _valued(labelling: Labelling) -> list[str]:
    """Return the columns whose values were given a meaning."""
    return [column for column, _ in labelling.meanings if column != "*" and not labelling.label_pattern]


def require_column(name: str, tables: Sequence[Table]) -> None:
    """Raise ConfigError, with the nearest name, if none of the tables has a column."""
    columns = list(dict.fromkeys(str(column) for table in tables for column in table.rows))
    if name in columns:
        return
    files = ", ".join(dict.fromkeys(table.name for table in tables))
    folded = {column.casefold(): column for column in columns}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    nearest = f"nearest: {folded[near[0]]!r}" if near else f"it has {', '.join(map(repr, columns[:20]))}"
    raise ConfigError(f"column {name!r} is not in {files}; {nearest}.")


def find_path_column(labelling: Labelling, tables: Sequence[Table], used: Collection[str], files: Sequence[str]) -> str:
    """Return the column that names the image: the one that was named, or the only one whose values name files.

    Args:
        labelling: the options.
        tables: of labels.
        used: columns that options use for something else.
        files: paths of the images in the data.

    Raises:
        ConfigError: no column's values name files, or those of several do.
    """
    if labelling.path_column:
        return labelling.path_column
    known = stems(files)
    columns = [(str(name), table.rows[name]) for table in tables for name in table.rows if name not in used]
    found = list(dict.fromkeys(name for name, values in columns if _names_files(values, known)))
    if len(found) == 1:
        return found[0]
    names = ", ".join(dict.fromkeys(table.name for table in tables))
    if found:
        raise ConfigError(f"the columns {' and '.join(map(repr, found))} of {names} name files: give --path-column.")
    example = f", such as {files[0]!r}" if files else ""
    raise ConfigError(
        f"no column of {names} names files of the data{example}: give --path-column, or correct the data."
    )


def _names_files(values: pd.Series, known: set[str]) -> bool:
    sample = values.dropna().drop_duplicates().head(SAMPLE)
    n_known = sum(without_suffix(value.replace("\\", "/").rpartition("/")[2]) in known for value in sample)
    return len(sample) > 0 and n_known >= len(sample) / 2


def join_tables(tables: Sequence[Table], path_column: str, labels: Sequence[str], used: Sequence[str]) -> pd.DataFrame:
    """Return one table with the path column and the used columns.

    Tables that each have the path and all labels list images of their own (train.csv, valid.csv): their rows are put
    below each other. Any other table adds its columns to the rows that have the same values in the shared columns. Rows
    about one image that say the same stay: they may be the votes of several readers.

    Raises:
        ConfigError: the path column is in no table, or a table shares no column with the others.
        DataError: two tables have not one value in common.
    """
    listing = [table for table in tables if path_column in table.rows]
    complete = [table for table in listing if set(labels) <= set(table.rows.columns)] or listing[:1]
    rows = pd.concat([table.rows for table in complete], ignore_index=True)
    remaining = [table for table in tables if not any(table is other for other in complete)]
    needed = {*used, *_links(tables)}
    while remaining:
        table = next((table for table in remaining if set(table.rows) & set(rows)), None)
        if table is None:
            names = ", ".join(other.name for other in complete)
            raise ConfigError(
                f"{remaining[0].name!r} has no column in common with {names}: give a table that links them, or rename "
                "the column that they share."
            )
        remaining = [other for other in remaining if other is not table]
        rows = _joined(rows, table, labels, needed)
    return rows.reindex(columns=list(dict.fromkeys((path_column, *used)))).reset_index(drop=True)


def _links(tables: Sequence[Table]) -> set[str]:
    """Return the columns that two tables have in common."""
    columns = [str(name) for table in tables for name in table.rows]
    return {name for name in columns if columns.count(name) > 1}


def _joined(rows: pd.DataFrame, table: Table, labels: Sequence[str], needed: Collection[str]) -> pd.DataFrame:
    """Return the rows with a table's columns; without those that it does not know, if it is the table of labels."""
    keys = [name for name in rows if name in table.rows]
    kept = [name for name in table.rows if name in keys or name in needed]
    has_labels = not set(labels).isdisjoint(table.rows)
    added = table.rows.dropna(subset=keys)
    added = added[kept] if has_labels else added[kept].drop_duplicates()
    joined = rows.merge(added, on=keys, how="left", indicator="_partner")
    has_partner = joined.pop("_partner") == "both"
    shared = ", ".join(map(repr, keys))
    if not has_partner.any():
        raise DataError(f"{table.name!r} has no value of {shared} in common with the other tables: correct it.")
    log.info("labels: %s joined on %s, for %d of %d rows", table.name, shared, has_partner.sum(), len(joined))
    return joined[has_partner] if has_labels else joined
