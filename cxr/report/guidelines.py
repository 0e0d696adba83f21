"""Where a report answers reporting guidelines: CLAIM, TRIPOD+AI and STARD-AI, item by item.

The items are data, in `checklists.toml`; whether an analysis was done is a fact of the run.
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

NOT_DONE, NOT_APPLICABLE = "not done", "not applicable"
ON_REQUEST = ("robustness", "learning-curve", "sealed-test", "external")
"""Analyses that a run has only if somebody asked for them."""
STANDS_IN = {"external": "sealed-test"}
"""Analyses whose section is called otherwise."""


@dataclass(frozen=True)
class Item:
    """An item of a guideline and where it is answered."""

    number: str
    subject: str
    answer: str
    """A section of the report, NOT_APPLICABLE or NOT_DONE."""
    remark: str


@dataclass(frozen=True)
class Checklist:
    """A guideline."""

    name: str
    source: str
    doi: str
    items: list[Item]

    def count(self, answer: str) -> int:
        """Return how many items have an answer."""
        return sum(item.answer == answer for item in self.items)


def crosswalk(done: Collection[str]) -> list[Checklist]:
    """Return the guidelines with their items' answers.

    Args:
        done: those of ON_REQUEST that were done.
    """
    file = Path(__file__).with_name("checklists.toml")
    lists = tomllib.loads(file.read_text(encoding="utf-8"))["checklist"]
    return [_checklist(one, done) for one in lists]


def _checklist(one: Mapping, done: Collection[str]) -> Checklist:
    items = [Item(number, subject, _answer(where, done), remark) for number, subject, where, remark in one["items"]]
    return Checklist(one["name"], one["source"], one["doi"], items)


def _answer(where: str, done: Collection[str]) -> str:
    if where in ON_REQUEST and where not in done:
        return NOT_DONE
    return STANDS_IN.get(where, where)
