"""Every number on the page of a report, compared with the run's tables; the page is parsed as a browser would.

    python -m benchmarks.report_numbers --run experiments/real64

A number with `data-from` is looked up in the file that it names, and has to agree to the last decimal shown. No other
number may be in a cell or a sentence, except in what is marked as given (the config, dates, figures of others), in
section headings and in axis labels. Each figure on the page has to equal its file, and the numbers in the confusion
matrix and in the figures' descriptions those of their table.
"""

import argparse
import json
import math
import re
from collections.abc import Hashable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd

NUMBER = re.compile(r"[−+-]?\d(?:[\d,]*\d)?(?:\.\d+)?")
PROSE = {"0", "0.5", "0.95", "1", "15", "50", "95"}
"""Numbers in the template's own sentences: thresholds, levels of confidence, bins, the network's name."""
IGNORED = {"style", "title", "desc", "svg", "code", "nav", "th"}
RowsByKey = dict[tuple[Any, ...], list[dict[Hashable, Any]]]
"""Rows of a table by their values in some of its columns."""
Tables = dict[tuple[Path, tuple[str, ...]], RowsByKey]
"""By file and names of these columns; each file is read once for each such choice."""
VOID = {"meta", "br", "img", "link", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects the text of a report: numbers with their sources, and sentences outside them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sourced: list[tuple[dict[str, Any], str]] = []
        self.loose: list[str] = []
        self._open: list[tuple[str, bool, dict[str, Any] | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element's text is: sourced, given, or a sentence."""
        attributes = dict(attrs)
        classes = (attributes.get("class") or "").split()
        source = json.loads(attributes["data-from"] or "") if "data-from" in attributes else None
        if source is not None:
            self.sourced.append((source, ""))
        if tag not in VOID:
            self._open.append((tag, tag in IGNORED or bool({"given", "path"} & set(classes)), source))

    def handle_endtag(self, tag: str) -> None:
        """Leave an element, and those inside it that were left open."""
        while tag not in VOID and self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Add text to the number or the sentences that it belongs to."""
        if any(source is not None for *_, source in self._open):
            source, text = self.sourced[-1]
            self.sourced[-1] = source, text + data
        elif not any(ignored for _, ignored, _ in self._open):
            self.loose.append(data)


def disagreements(run: Path) -> tuple[int, list[str]]:
    """Return how many numbers were compared, and a sentence for each that differs from the tables.

    With several findings per image, the page of each is compared as well.
    """
    texts = [path.read_text(encoding="utf-8") for path in (run / "report.html", *sorted(run.glob("report-*.html")))]
    found = [*(_numbers(run, text) for text in texts), _figures(run, "\n".join(texts))]
    return sum(n for n, _ in found), [sentence for _, wrong in found for sentence in wrong]


def _numbers(run: Path, text: str) -> tuple[int, list[str]]:
    """Compare the numbers of one page with the tables."""
    page = Page(text)
    tables: Tables = {}
    wrong = []
    n_compared = 0
    for source, shown in page.sourced:
        values = list(_values(run, source, tables))
        numbers = [float(n.replace(",", "").replace("−", "-")) for n in NUMBER.findall(shown)]
        decimals = [len(n.partition(".")[2]) for n in NUMBER.findall(shown)]
        defined = [value for value in values if not math.isnan(value)]
        n_compared += len(numbers)
        agree = len(numbers) == len(defined) and all(
            abs(number - value) <= 0.5 * 10**-places * (1 + 1e-9)
            for number, value, places in zip(numbers, defined, decimals, strict=True)
        )
        if not agree:
            wrong.append(f"{shown!r} on the page, {defined} in {source}")
    for sentence in page.loose:
        unsourced = [n for n in NUMBER.findall(sentence) if n.strip("+-−") not in PROSE]
        wrong += [f"no source for {n} in {' '.join(sentence.split())!r}" for n in unsourced]
    return n_compared, wrong


def _values(run: Path, source: dict[str, Any], tables: Tables) -> Iterator[float]:
    file = run / source["file"]
    if file.suffix == ".json":
        value = json.loads(file.read_text(encoding="utf-8"))
        for step in source["path"][:-1]:
            value = value[step]
        yield float(value.get(source["path"][-1]) or 0)
        return
    where = tuple(source["where"])
    if (file, where) not in tables:
        tables[file, where] = _rows_by_key(pd.read_parquet(file), where)
    rows = tables[file, where].get(tuple(source["where"].values()), [])
    if len(rows) == 1:
        for value in map(rows[0].get, source["columns"]):
            yield math.nan if pd.isna(value) else float(value) * source["scale"]


def _rows_by_key(table: pd.DataFrame, where: tuple[str, ...]) -> RowsByKey:
    """Return a table's rows by their values in some of its columns; None where a value is missing."""
    rows: RowsByKey = {}
    for row in table.to_dict("records"):
        rows.setdefault(tuple(None if pd.isna(row[column]) else row[column] for column in where), []).append(row)
    return rows


def _figures(run: Path, text: str) -> tuple[int, list[str]]:
    wrong = []
    n_compared = 0
    for file in sorted((run / "figures").glob("*.svg")):
        svg = file.read_text(encoding="utf-8")
        table = pd.read_parquet(file.with_suffix(".parquet"))
        if svg not in text:
            wrong.append(f"figure {file.stem} on the page is not {file}")
        if file.stem.endswith("confusion"):
            counts = re.findall(r">([\d,]+)</(?:tspan|text)>", svg)
            n_compared += len(counts)
            if sorted(int(n.replace(",", "")) for n in counts) != sorted(table["n"]):
                wrong.append(f"the confusion matrix shows {counts}")
        if file.stem.endswith(("folds", "subgroups")):
            described = re.findall(r"([\d.]+)%", re.sub(r".*<desc[^>]*>(.*?)</desc>.*", r"\1", svg, flags=re.DOTALL))
            shown = table[table["metric"].isin(["roc_auc", "sensitivity", "specificity"])]["value"].dropna()
            n_compared += len(described)
            if described != [f"{100 * value:.1f}" for value in shown]:
                wrong.append(f"the description of {file.stem} is not its table's")
    return n_compared, wrong


def main() -> None:
    """Compare, and print what disagrees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run that has a report")
    n_compared, wrong = disagreements(parser.parse_args().run)
    print("\n".join(wrong) or f"all {n_compared:,} numbers agree with the tables")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
