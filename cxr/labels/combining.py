"""One row for each image, from the rows that tables have about it.

Several readers may disagree on a finding: `--rows` says how they are combined, and there is no silent default. Nothing
combines two patients, splits or weights of one image: these are an error.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.errors import ConfigError, DataError
from cxr.labelling import Rows

SHOWN = 6


def combine_findings(findings: pd.DataFrame, keys: pd.Series, rule: Rows | None) -> pd.DataFrame:
    """Return the findings of each image: nullable booleans by key.

    Rows in which a finding is unknown do not count for it. A majority needs more than half of the others; a tie is
    unknown, as is a finding that is not unanimous under that rule.

    Args:
        findings: nullable booleans, one row for each row of the tables.
        keys: the file of each row.
        rule: how rows that disagree are combined.

    Raises:
        ConfigError: rows disagree, and no rule is given.
    """
    group, files = pd.factorize(keys, sort=True)
    combined = {}
    for name in findings:
        column = findings[name]
        n_present = np.bincount(group[column.fillna(False).to_numpy(bool)], minlength=len(files))
        n_known = np.bincount(group[column.notna().to_numpy()], minlength=len(files))
        disagrees = (n_present > 0) & (n_present < n_known)
        if rule is None and disagrees.any():
            raise ConfigError(_disagreement(str(name), column, keys, files[disagrees]))
        combined[name] = _combined(n_present, n_known, rule)
    return pd.DataFrame(combined, index=pd.Index(files, dtype="str"))


def _combined(n_present: NDArray[np.int64], n_known: NDArray[np.int64], rule: Rows | None) -> pd.arrays.BooleanArray:
    """Return whether a finding is present in each image, from the number of its rows that say so, shape (n,)."""
    if rule == "any":
        is_present = n_present > 0
        is_known = n_known > 0
    elif rule == "majority":
        is_present = 2 * n_present > n_known
        is_known = (2 * n_present != n_known) & (n_known > 0)
    else:
        is_present = (n_present == n_known) & (n_known > 0)
        is_known = (is_present | (n_present == 0)) & (n_known > 0)
    return pd.arrays.BooleanArray(is_present & is_known, ~is_known)


def _disagreement(name: str, column: pd.Series, keys: pd.Series, files: pd.Index) -> str:
    said = column[(keys == files[0]).to_numpy()]
    shown = ", ".join("unknown" if value is pd.NA else str(int(value)) for value in said.head(SHOWN))
    more = ", …" if len(said) > SHOWN else ""
    return (
        f"image {files[0]!r} has rows that disagree ({name} {shown}{more}), as do {len(files) - 1:,} more: give "
        "--rows any, majority or unanimous."
    )


def combine_facts(rows: pd.DataFrame, keys: pd.Series, columns: Sequence[str]) -> pd.DataFrame:
    """Return the one value that each column has for an image, by key; missing where all its rows are blank.

    Raises:
        DataError: an image has two values in a column.
    """
    if keys.is_unique:
        return rows[list(columns)].set_axis(pd.Index(keys, dtype="str"), axis=0)
    grouped = rows[list(columns)].groupby(keys.to_numpy())
    n_values = grouped.nunique()
    for name in columns:
        several = n_values[name] > 1
        if several.any():
            key = several.index[several.to_numpy().argmax()]
            values = rows.loc[keys.to_numpy() == key, name].dropna().unique()[:SHOWN]
            raise DataError(
                f"image {str(key)!r} has rows that disagree ({name} {', '.join(map(str, values))}): correct the tables."
            )
    return grouped.first()
