"""Reporting guidelines: where a report answers CLAIM, TRIPOD+AI and STARD-AI, item by item.

The items are in `checklists.toml`, which also names the copies of the checklists that they were compared with. Items
about optional analyses are answered only in runs that have these analyses.
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

NOT_DONE = "not done"
NOT_APPLICABLE = "not applicable"
ON_REQUEST = ("robustness", "learning-curve", "held-out-test", "external")
"""Analyses that a run has only on request."""
STANDS_IN = {"external": "held-out-test"}
"""Analyses that the report shows in another one's section."""


@dataclass(frozen=True)
class Item:
    """An item of a guideline, and where the report answers it."""

    number: str
    """As printed in the guideline: `12a`."""
    subject: str
    """What the item asks for, paraphrased."""
    answer: str
    """The id of a section of the report, NOT_APPLICABLE or NOT_DONE."""
    remark: str


@dataclass(frozen=True)
class Checklist:
    """The checklist of a guideline, in its order."""

    name: str
    source: str
    doi: str
    items: list[Item]

    def count(self, answer: str) -> int:
        """Return the number of items with this answer."""
        return sum(item.answer == answer for item in self.items)


def crosswalk(done: Collection[str]) -> list[Checklist]:
    """Return the checklists, each item with its answer.

    Args:
        done: those of ON_REQUEST that the run has.
    """
    file = Path(__file__).with_name("checklists.toml")
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["checklist"]
    return [_checklist(entry, done) for entry in entries]


def _checklist(entry: Mapping, done: Collection[str]) -> Checklist:
    rows = entry["items"]
    items = [Item(number, subject, _answer(where, done), remark) for number, subject, where, remark in rows]
    return Checklist(entry["name"], entry["source"], entry["doi"], items)


def _answer(where: str, done: Collection[str]) -> str:
    if where in ON_REQUEST and where not in done:
        return NOT_DONE
    return STANDS_IN.get(where, where)
