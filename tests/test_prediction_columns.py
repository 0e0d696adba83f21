import pytest

from cxr.errors import ConfigError
from cxr.prediction_columns import PredictionColumns


@pytest.mark.parametrize("given", [("sex,age",), ("sex", "age"), (" sex , age ,",), ("sex,", "", "age")])
def test_subgroups_may_be_given_at_once_or_one_by_one(given: tuple[str, ...]) -> None:
    assert PredictionColumns(subgroup_column=given).subgroup_column == ("sex", "age")


def test_a_finding_has_the_name_of_its_column_or_one_of_its_own() -> None:
    given = PredictionColumns(label_columns=("Mass,Effusion=y_0", "Tube=a=b"))
    assert given.columns_of_findings == [("Mass", "Mass"), ("Effusion", "y_0"), ("Tube", "a=b")]


def test_the_meaning_of_a_value_is_between_the_first_colon_and_the_last_equals_sign() -> None:
    given = ("label:1=PNEUMONIA", "label:=NORMAL", "finding:a:b=c=TB")
    assert PredictionColumns(value=given).meanings == {
        ("label", "1"): "PNEUMONIA",
        ("label", ""): "NORMAL",
        ("finding", "a:b=c"): "TB",
    }


@pytest.mark.parametrize("text", ["label", "label:1", "label=1", ":1=PNEUMONIA", "label:1=", ""])
def test_a_value_without_column_or_class_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--value must look like label:1=PNEUMONIA \(COLUMN:VALUE=CLASS\), got '"):
        PredictionColumns(value=("label:0=NORMAL", text))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"label_column": "y", "label_pattern": "(a|b)/"}, "--label-column and --label-pattern both say where labels"),
        ({"probability_column": ("A=p",), "logit_column": ("A=l",)}, "--probability-column and --logit-column exclude"),
        ({"blank": "drop"}, "--blank must be one of negative, mask, got 'drop'"),
        ({"uncertain": "maybe"}, "--uncertain must be one of mask, positive, negative, got 'maybe'"),
        ({"label_column": "y", "label_columns": ("a",)}, "--label-column and --label-columns both say where labels"),
        ({"separator": "|"}, "--separator is for --label-column: say which column holds several findings"),
        ({"label_pattern": "[a-z"}, r"--label-pattern '\[a-z' is not a regular expression: unterminated"),
        ({"label_pattern": "[a-z]+"}, r"--label-pattern needs a group for what it finds, got '\[a-z\]\+'"),
    ],
)
def test_options_that_cannot_hold_are_one_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PredictionColumns(**options)
