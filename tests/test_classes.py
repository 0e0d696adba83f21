import pytest

from cxr.classes import Classes, Findings, outputs_of_record, require_classes, spell_apart, spelt_alike
from cxr.errors import TaskError


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


def test_findings_have_columns_of_their_own_and_stand_for_the_macro_mean() -> None:
    findings = Findings(["Effusion", "Mass"])
    assert findings.columns == ["finding_Effusion", "finding_Mass"]
    assert findings.called_columns == ["called_Effusion", "called_Mass"]
    assert findings.headline == "macro"
    assert findings.link == "sigmoid"
    assert Classes(["a", "b"]).link == "softmax"
    assert findings.against_absence("Mass") == Classes(["no Mass", "Mass"])
    assert Findings.of_columns(["path", *findings.columns, "label"]) == findings


def test_a_record_says_whether_an_image_has_one_label_or_several_findings() -> None:
    for config, kind in (({}, Classes), ({"task": "single"}, Classes), ({"task": "multi"}, Findings)):
        assert type(outputs_of_record({"classes": ["a", "b"], "config": config})) is kind


def test_findings_are_refused_where_one_label_is_needed() -> None:
    with pytest.raises(TaskError, match=r"^run 'x' predicts several findings per image \(--task multi\)"):
        require_classes(Findings(["a"]), "run 'x'")
    assert require_classes(Classes(["a", "b"]), "run 'x'") == ("a", "b")
