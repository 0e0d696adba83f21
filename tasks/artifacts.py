"""What the artifacts in Prefect's UI are made of: their keys, and the rows of their tables."""

import re
from typing import Any

import pandas as pd

from cxr.wording import visible


def artifact_key(name: str) -> str:
    """Return a name as part of an artifact's key, which may hold lower-case letters, digits and dashes alone."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def table_rows(table: pd.DataFrame) -> list[list[Any]]:
    """Return a table as the rows of a table artifact: the names of the columns first, None where a value is missing."""
    rows = [table.columns.tolist(), *table.astype(object).where(table.notna(), None).to_numpy().tolist()]
    return [[visible(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
