"""Numbers on a page that say where they come from, so that a machine can compare them with the tables.

Each number carries `data-from`: a file of the run, the row in it (or the path in a JSON file), the columns, and what
they were multiplied by. `benchmarks/report_numbers.py` reads a report back and compares.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from markupsafe import Markup

from cxr.report.wording import in_words


class Cells:
    """The tables behind a page, and their numbers as markup.

    Args:
        tables: by name, each with the name of its file in the run's folder.
        facts: JSON objects by name of their file.
    """

    def __init__(self, tables: Mapping[str, tuple[str, pd.DataFrame]], facts: Mapping[str, Any]) -> None:
        self._tables, self._facts = tables, facts

    def rows(self, table: str, **where: Any) -> list[dict[Any, Any]]:
        """Return the rows of a table that have these values, None for what is missing."""
        return self._select(table, where).astype(object).where(lambda t: t.notna(), None).to_dict("records")

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
        """Return a value, with two columns more its interval in brackets, with one more its standard deviation.

        Args:
            table: name of the table.
            columns: value; value and sd; or value, low and high.
            where: what tells the one row from all others, None for a missing value.
            scale: 100 for shares in percent.
            decimals: after the point.
            sign: write + as well.
        """
        rows = self._select(table, where)
        if len(rows) != 1:
            raise LookupError(f"one row of {table} is wanted, {len(rows)} have {dict(where)}")
        values = [float(value) for value in rows.iloc[0][list(columns)].astype(float)]
        source = {"file": self._tables[table][0], "where": dict(where), "columns": columns, "scale": scale}
        return _span(in_words(values, scale=scale, decimals=decimals, sign=sign), source)

    def fact(self, file: str, *path: str | int) -> Markup:
        """Return a whole number of a JSON file; 0 where the last step of the path is missing."""
        value: Any = self._facts[file]
        for step in path[:-1]:
            value = value[step]
        value = value.get(path[-1]) if isinstance(value, Mapping) else value[path[-1]]
        return _span(f"{value or 0:,}", {"file": file, "path": path, "scale": 1})

    def _select(self, table: str, where: Mapping[str, Any]) -> pd.DataFrame:
        rows = self._tables[table][1]
        for column, value in where.items():
            rows = rows[rows[column].isna() if value is None else rows[column] == value]
        return rows


def _span(text: str, source: Mapping[str, Any]) -> Markup:
    told = escape(json.dumps(source, ensure_ascii=False), quote=True)
    return Markup(f'<span data-from="{told}">{escape(text)}</span>')  # noqa: S704 both are escaped
