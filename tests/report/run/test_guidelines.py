import re
from pathlib import Path

import pytest

from cxr.report.run import guidelines
from cxr.report.run.guidelines import NOT_APPLICABLE, NOT_DONE, ON_REQUEST, crosswalk

REPORT = Path(guidelines.__file__).with_name("report.html.j2")
SHARED = REPORT.parents[1]
PARTS = [
    next(path for path in (REPORT.with_name(name), SHARED / name) if path.exists())
    for name in re.findall(r'{% include "([\w.-]+)" %}', REPORT.read_text())
]
SECTIONS = {name for part in (REPORT, *PARTS) for name in re.findall(r'<section id="([\w-]+)"', part.read_text())}


def _numbers(n_items: int, letters: dict[int, str]) -> list[str]:
    return [f"{item}{letter}" for item in range(1, n_items + 1) for letter in letters.get(item, [""])]


NUMBERS = {
    "CLAIM, 2024 update": _numbers(44, {}),
    "TRIPOD+AI, 2024": _numbers(
        27,
        {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc"},
    ),
    "STARD-AI, 2025": _numbers(40, {15: "abcd", 16: "abc", 17: "ab", 26: "ab", 40: "ab"}),
}


def test_the_items_are_those_of_the_guidelines_in_their_order() -> None:
    assert {checklist.name: [item.number for item in checklist.items] for checklist in crosswalk(())} == NUMBERS


@pytest.mark.parametrize("done", [(), ON_REQUEST])
def test_every_answer_is_a_section_of_the_report_or_says_that_there_is_none(done) -> None:
    for checklist in crosswalk(done):
        assert {item.answer for item in checklist.items} <= SECTIONS | {NOT_DONE, NOT_APPLICABLE}
        assert all(item.subject for item in checklist.items)
        assert all(item.remark for item in checklist.items if item.answer == NOT_APPLICABLE)


def test_an_analysis_that_nobody_asked_for_is_not_done() -> None:
    claim, claim_with = (crosswalk(done)[0] for done in ((), ("external", "robustness")))
    by_number = {item.number: item.answer for item in claim.items}
    assert by_number["33"] == by_number["30"] == by_number["27"] == NOT_DONE
    by_number = {item.number: item.answer for item in claim_with.items}
    assert (by_number["33"], by_number["30"], by_number["27"]) == ("held-out-test", "robustness", NOT_DONE)
