"""Numbers on a page that name the table they come from, so that a program can compare them with it.

Each number carries an attribute `data-from`: a file of the run, the row in it (or the path in a JSON file), the
columns, and the factor that they were multiplied by. `benchmarks/report_numbers.py` reads a report back and compares.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from math import nan
from typing import Any

import pandas as pd
from markupsafe import Markup

from cxr.wording import format_estimate

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


class Cells:
    """The tables behind a page, and their numbers as markup.

    Args:
        tables: by name; each is a pair of its file's path in the run's folder and the table.
        facts: JSON objects by the name of their file.
        within: column values that all rows of the tables have, where their files hold others as well.
    """

    def __init__(
        self,
        tables: Mapping[str, tuple[str, pd.DataFrame]],
        facts: Mapping[str, Any],
        within: Mapping[str, Any] | None = None,
    ) -> None:
        self._tables = tables
        self._facts = facts
        self._within = within or {}
        self._records: dict[str, list[dict[Any, Any]]] = {}

    def rows(self, table: str, **where: Any) -> list[dict[Any, Any]]:
        """Return the rows of a table that have the values in `where`; missing values are None."""
        if table not in self._records:  # looked up hundreds of times for a page, in a list faster than in a frame
            frame = self._tables[table][1].astype(object)
            self._records[table] = frame.where(frame.notna(), None).to_dict("records")
        return [row for row in self._records[table] if all(row[name] == value for name, value in where.items())]

    def number(
        self,
        table: str,
        columns: Sequence[str],
        where: Mapping[str, Any],
        *,
        scale: float = 100,
        decimals: int = 1,
        sign: bool = False,
    ) -> Markup:
        """Return a value with its standard deviation or interval, if any, from one row of a table.

        Args:
            table: name of the table.
            columns: value; value and sd; or value, low and high.
            where: column values that select exactly one row; None stands for a missing value.
            scale: factor; 100 shows shares in percent.
            decimals: digits after the point.
            sign: write + before a positive number.

        Raises:
            LookupError: no row or several rows match.
        """
        rows = self.rows(table, **where)
        if len(rows) != 1:
            raise LookupError(f"exactly one row of {table} must match {dict(where)}, got {len(rows)}")
        values = [nan if rows[0][name] is None else float(rows[0][name]) for name in columns]
        file, frame = self._tables[table]
        place = {name: value for name, value in self._within.items() if name in frame} | dict(where)
        source = {"file": file, "where": place, "columns": columns, "scale": scale}
        sd = {"sd": values.pop()} if len(values) == 2 else {}
        text = format_estimate(*values, **sd, scale=scale, decimals=decimals, sign=sign)
        return _span(text.replace(", ", f",{NO_BREAK_SPACE}").replace("-", MINUS), source)

    def fact(self, file: str, *path: str | int) -> Markup:
        """Return an integer from a JSON file; 0 if the last step of the path is missing."""
        value: Any = self._facts[file]
        for step in path[:-1]:
            value = value[step]
        value = value.get(path[-1]) if isinstance(value, Mapping) else value[path[-1]]
        return _span(f"{value or 0:,}", {"file": file, "path": path, "scale": 1})


def _span(text: str, source: Mapping[str, Any]) -> Markup:
    attribute = escape(json.dumps(source), quote=True)
    return Markup(f'<span data-from="{attribute}">{escape(text)}</span>')  # noqa: S704 both are escaped
