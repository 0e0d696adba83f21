"""Columns beside the label: subgroups of the report, and weights of the training loss."""

from itertools import pairwise

import pandas as pd

from cxr.errors import DataError

BANDS = (0, 18, 40, 60, 80)
"""Ages, in years, at which a band begins."""
MOST_LEVELS = 20
"""Subgroups of one column; more would be named one by one in the report."""
FEW = 10
"""A column of numbers with more different values is divided into quarters."""
AGE = r"^0*(\d+(?:\.\d+)?)\s*([YMWD]?)$"
"""A number, with the unit that DICOM's age string has: years, months, weeks or days."""


def subgroup_levels(values: pd.Series) -> pd.Series:
    """Return the subgroup of each image, as text; missing where the value is.

    Ages become bands, other numbers with many values quarters; anything else is a subgroup by itself.

    Raises:
        DataError: a column of text has too many different values.
    """
    name = str(values.name)
    if "age" in name.casefold().replace("_", " ").split() or name.casefold().endswith(" age"):
        return _age_bands(values)
    if values.nunique() <= FEW:
        return values
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().equals(values.notna()):
        return _quarters(numbers)
    if values.nunique() > MOST_LEVELS:
        raise DataError(
            f"--subgroup-column {name!r} has {values.nunique():,} different values, at most {MOST_LEVELS}: give a "
            "column with fewer."
        )
    return values


def _age_bands(values: pd.Series) -> pd.Series:
    parts = values.str.upper().str.extract(AGE)
    years = pd.to_numeric(parts[0]).where(parts[1].isin(["", "Y"]), 0.0).where(parts[0].notna())
    names = [f"{low} to {high - 1}" for low, high in pairwise(BANDS)]
    bands = pd.cut(years, [*BANDS, float("inf")], right=False, labels=[*names, f"{BANDS[-1]} and over"])
    return bands.astype("str").where(bands.notna())


def _quarters(numbers: pd.Series) -> pd.Series:
    quarter = pd.qcut(numbers, 4, duplicates="drop")
    levels = quarter.cat.categories
    names = {level: f"{k} of {len(levels)}, to {level.right:g}" for k, level in enumerate(levels, 1)}
    return quarter.map(names).astype("str").where(quarter.notna())


def weights_of(values: pd.Series) -> pd.Series:
    """Return the weight of each image in the training loss.

    Raises:
        DataError: a weight is blank, no number, or not above 0.
    """
    weights = pd.to_numeric(values, errors="coerce")
    is_wrong = ~(weights > 0) | (weights == float("inf"))
    if is_wrong.any():
        first = values[is_wrong].head(1)
        raise DataError(
            f"--weight-column {str(values.name)!r} must hold a number above 0 for each image, got {first.iloc[0]!r} "
            f"for {str(first.index[0])!r} ({is_wrong.sum():,} such rows)."
        )
    return weights.astype("float64")
