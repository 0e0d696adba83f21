"""The rows of the tables that count: each with the image that it means, without what the options leave out."""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import pandas as pd

from cxr.errors import ConfigError, DataError
from cxr.images.dicom.file import is_dicom, read_dataset
from cxr.images.source import Source
from cxr.labelling import Labelling
from cxr.labels.columns import find_path_column, join_tables, label_columns, used_columns
from cxr.labels.matching import Match, match_files, stems
from cxr.labels.meanings import PATH_LABEL
from cxr.labels.patients import require_patients_of_images
from cxr.labels.tables import Table

log = logging.getLogger(__name__)

FILE = "file in the data"
VIEW = "view of the image"
"""Columns that are added to those of the tables."""
HEAD_BYTES = 132
"""DICOM's preamble and its prefix."""


def find_rows(
    tables: Sequence[Table],
    labelling: Labelling,
    source: Source,
    files: Sequence[str],
    finding: str | None,
    match: Match = match_files,
) -> pd.DataFrame:
    """Return the rows of the tables, or one for each image if there are none, with the image as the column FILE."""
    if tables:
        labels = label_columns(labelling, finding)
        used = used_columns(labelling, tables, labels)
        path_column = find_path_column(labelling, tables, used, files)
        beside = [table.with_folder(path_column, files) for table in tables]
        rows = join_tables(beside, path_column, labels, used)
        if labelling.patient_column:
            require_patients_of_images(rows[labelling.patient_column], rows[path_column])
        rows = _with_files(rows, path_column, labelling, source, files, match)
    else:
        rows = pd.DataFrame({FILE: pd.Series(list(files), dtype="str")})
    return _with_path_labels(rows, labelling.label_pattern) if labelling.label_pattern else rows


def _with_path_labels(rows: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """Return the rows of images in whose path the pattern finds a label."""
    found = first_groups(pattern, rows[FILE])
    if found.isna().all():
        raise DataError(f"--label-pattern {pattern!r} is found in no path, such as {rows[FILE].iloc[0]!r}.")
    return rows.assign(**{PATH_LABEL: found}).dropna(subset=PATH_LABEL).reset_index(drop=True)


def first_groups(pattern: str, files: pd.Series) -> pd.Series:
    """Return the first group of the pattern in each path; missing where the pattern is not found."""
    matches = (re.search(pattern, file) for file in files)
    return pd.Series([(match and match.group(1)) or None for match in matches], index=files.index, dtype="str")


def _with_files(
    rows: pd.DataFrame, path_column: str, labelling: Labelling, source: Source, files: Sequence[str], match: Match
) -> pd.DataFrame:
    """Return the rows whose path names a file, with it as the column FILE."""
    values = rows[path_column].dropna().unique().tolist()
    found = match(values, files, lambda file: read_tag(source, file, "SOPInstanceUID"))
    file = rows[path_column].map(found)
    missing = rows.loc[file.isna() & ~_is_excluded(rows, labelling), path_column].fillna("")
    if not found:
        raise DataError(
            f"no row names a file of the data: column {path_column!r} holds {next(iter(values), '')!r}, and the data "
            f"hold {next(iter(files), 'no image')!r}: give --path-column."
        )
    if len(missing) and labelling.missing_films == "refuse":
        unread = stems(source.sizes().keys() - set(files))
        aside = next((value for value in missing if stems([value.replace("\\", "/")]) <= unread), None)
        if aside is not None:
            raise DataError(
                f"{len(missing):,} of {len(rows):,} rows name no image that is read, such as {aside!r}: a file of that "
                "name is left aside, as a mask or in a format that is not read. Give --missing-films allow, the folder "
                "of the images as --data, or the images as JPEG, PNG or DICOM."
            )
        raise DataError(
            f"{len(missing):,} of {len(rows):,} rows name no file, such as {missing.iloc[0]!r}: give --missing-films "
            "allow, or correct the path."
        )
    return rows.assign(**{FILE: file}).dropna(subset=FILE).reset_index(drop=True)


def _is_excluded(rows: pd.DataFrame, labelling: Labelling) -> pd.Series:
    """Return whether --exclude leaves out each row."""
    is_excluded = pd.Series(False, index=rows.index)
    for text in labelling.exclude:
        column, _, value = text.partition("=")
        matches = rows[column].isna() if value == "" else rows[column] == value
        is_excluded |= matches
    return is_excluded


def without_excluded(rows: pd.DataFrame, labelling: Labelling) -> tuple[pd.DataFrame, Iterable[str]]:
    """Return the rows that are not left out, and the files of the others."""
    is_excluded = _is_excluded(rows, labelling)
    if labelling.exclude and not is_excluded.any():
        log.warning("labels: --exclude %s fits no row", " ".join(labelling.exclude))
    return rows[~is_excluded], rows.loc[is_excluded, FILE]


def of_views(rows: pd.DataFrame, labelling: Labelling, source: Source) -> tuple[pd.DataFrame, Iterable[str]]:
    """Return the rows of the views that are used, with the view as the column VIEW; and the files of the others."""
    if labelling.view_column:
        rows = rows.assign(**{VIEW: rows[labelling.view_column]})
    elif labelling.view_positions:
        views = {file: read_tag(source, file, "ViewPosition") for file in rows[FILE].unique()}
        rows = rows.assign(**{VIEW: rows[FILE].map(views)})
        if rows[VIEW].isna().all():
            raise ConfigError(
                "--view-positions needs to know each image's view, and neither a column nor DICOM's ViewPosition says "
                "it: give --view-column."
            )
    else:
        return rows.assign(**{VIEW: None}), ()
    if not labelling.view_positions:
        return rows, ()
    wanted = [view.casefold() for view in labelling.view_positions]
    is_wanted = rows[VIEW].str.casefold().isin(wanted)
    if not is_wanted.any():
        known = ", ".join(map(repr, rows[VIEW].dropna().unique()[:20]))
        raise ConfigError(f"--view-positions {','.join(labelling.view_positions)} fits no image; there are {known}.")
    return rows[is_wanted], rows.loc[~is_wanted, FILE]


def read_tag(source: Source, file: str, tag: Literal["SOPInstanceUID", "ViewPosition"]) -> str | None:
    """Return the value of a tag; None if the file is no DICOM file, is damaged, or has no value there."""
    try:
        if not is_dicom(source.head(file, HEAD_BYTES)):
            return None
        return str(read_dataset(source.read(file), [tag]).get(tag) or "").strip() or None
    except MemoryError:
        raise
    except Exception:  # UnreadableError, OSError; from a damaged zip BadZipFile, zlib.error, EOFError, struct.error, …
        return None
