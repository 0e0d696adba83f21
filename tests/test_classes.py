import pytest

from cxr.classes import Classes, spell_apart, spelt_alike


def test_the_last_of_two_classes_is_positive_and_has_the_metrics() -> None:
    classes = Classes(["NORMAL", "PNEUMONIA"])
    assert classes.is_binary
    assert classes.positive == classes.headline == "PNEUMONIA"
    assert classes.evaluated == ("PNEUMONIA",)
    assert classes.probability_columns == ["probability_NORMAL", "probability_PNEUMONIA"]


def test_each_of_three_classes_has_metrics_and_their_macro_mean_stands_for_the_model() -> None:
    classes = Classes(["bacteria", "normal", "virus"])
    assert not classes.is_binary
    assert classes.positive is None
    assert classes.headline == "macro"
    assert classes.evaluated == classes
    assert classes.logit_columns == ["logit_bacteria", "logit_normal", "logit_virus"]


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (["NORMAL", "PNEUMONIA"], []),
        (["NORMAL", "PNEUMONIA", "Normal "], ["NORMAL", "Normal "]),
        (["caf\xe9", "CAFE\u0301"], ["CAFE\u0301", "caf\xe9"]),
        (["a\xa0b", "a b", "ab"], ["a b", "a\xa0b"]),
        (["resume", "r\xe9sum\xe9"], []),
    ],
)
def test_names_that_a_person_reads_as_one_are_found(names: list[str], alike: list[str]) -> None:
    assert spelt_alike(names) == alike


def test_names_that_look_alike_are_written_with_escapes() -> None:
    assert spell_apart(["caf\xe9", "cafe\u0301"]) == [r"'caf\xe9'", r"'cafe\u0301'"]
    assert spell_apart(["caf\xe9", "CAF\xc9"]) == ["'caf\xe9'", "'CAF\xc9'"]
