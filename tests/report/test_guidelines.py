import re
from pathlib import Path

import pytest

from cxr.report import guidelines
from cxr.report.guidelines import NOT_APPLICABLE, NOT_DONE, ON_REQUEST, crosswalk

SECTIONS = set(re.findall(r'<section id="([\w-]+)"', Path(guidelines.__file__).with_name("report.html.j2").read_text()))


@pytest.mark.parametrize("done", [(), ON_REQUEST])
def test_each_item_stands_once_and_its_answer_is_a_section_of_the_report_or_said_to_be_none(done) -> None:
    lists = {one.name: one for one in crosswalk(done)}
    assert {name: len(one.items) for name, one in lists.items()} == {
        "CLAIM, 2024 update": 44,
        "TRIPOD+AI, 2024": 52,
        "STARD-AI, 2025": 48,
    }
    for one in lists.values():
        assert len({item.number for item in one.items}) == len(one.items)
        assert {item.answer for item in one.items} <= SECTIONS | {NOT_DONE, NOT_APPLICABLE}
        assert all(item.subject for item in one.items)
        assert all(item.remark for item in one.items if item.answer == NOT_APPLICABLE)


def test_an_analysis_that_nobody_asked_for_is_not_done() -> None:
    claim, claim_with = (crosswalk(done)[0] for done in ((), ("external", "robustness")))
    by_number = {item.number: item.answer for item in claim.items}
    assert by_number["33"] == by_number["30"] == by_number["27"] == NOT_DONE
    by_number = {item.number: item.answer for item in claim_with.items}
    assert (by_number["33"], by_number["30"], by_number["27"]) == ("sealed-test", "robustness", NOT_DONE)
