"""What values mean, and that nothing is guessed."""

import pandas as pd
import pytest

from cxr.errors import ConfigError, DataError
from cxr.labelling import Labelling
from cxr.labels.meanings import findings_of, single_labels

NA = None


def labelling(**options: object) -> Labelling:
    return Labelling(labels=("t.csv",), **options)


def column(values: list[str | None], name: str = "Pneumonia") -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(values, dtype="str")})


def as_list(findings: pd.Series) -> list[bool | None]:
    return [None if value is pd.NA else bool(value) for value in findings]


def test_numbers_and_plain_words_mean_present_and_absent() -> None:
    rows = column(["1", "0", "1.0", "0.00", "True", "no", "Present", "negative"])
    found = findings_of(rows, labelling(label_columns=("Pneumonia",)), None)
    assert as_list(found["Pneumonia"]) == [True, False] * 4


@pytest.mark.parametrize(
    ("uncertain", "blank", "expected"),
    [
        ("mask", "mask", [True, None, None, False]),
        ("positive", "negative", [True, True, False, False]),
        ("negative", "mask", [True, False, None, False]),
    ],
)
def test_uncertain_and_blank_mean_what_the_options_say(uncertain: str, blank: str, expected: list[bool | None]) -> None:
    options = labelling(label_columns=("Pneumonia",), uncertain=uncertain, blank=blank)
    assert as_list(findings_of(column(["1", "-1.0", NA, "0"]), options, None)["Pneumonia"]) == expected


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            ["1", "-1", "-1"],
            r"column 'Pneumonia' holds -1 \(2 rows\): say what it means with --uncertain mask, positive",
        ),
        (
            ["1", NA, "0"],
            "column 'Pneumonia' is blank in 1 of 3 rows: say what that means with --blank negative or mask",
        ),
        (["1", "maybe"], r"column 'Pneumonia' holds 'maybe' \(1 rows\): .* --value 'Pneumonia:maybe=present'"),
        (["1", "2"], "column 'Pneumonia' holds '2'"),
    ],
)
def test_what_is_left_open_is_asked_for(values: list[str | None], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        findings_of(column(values), labelling(label_columns=("Pneumonia",)), None)


def test_values_may_be_given_a_meaning() -> None:
    meanings = ("Pneumonia:maybe=uncertain", "*:2=present", "Pneumonia:n/a=unknown")
    options = labelling(label_columns=("Pneumonia",), value=meanings, uncertain="negative")
    found = findings_of(column(["maybe", "2", "n/a"]), options, None)
    assert as_list(found["Pneumonia"]) == [False, True, None]


def test_a_column_with_several_findings_is_taken_apart() -> None:
    rows = column(["Edema|Pneumonia", "No Finding", "Edema", NA], "Finding Labels")
    options = labelling(
        label_column="Finding Labels", separator="|", value=("Finding Labels:No Finding=absent",), blank="mask"
    )
    found = findings_of(rows, options, None)
    assert {name: as_list(found[name]) for name in found} == {
        "Edema": [True, False, True, None],
        "Pneumonia": [True, False, False, None],
    }
    assert list(findings_of(rows, options, "Pneumonia")) == ["Pneumonia"]
    with pytest.raises(ConfigError, match="--positive 'Pneumona' is no finding of the tables; nearest: 'Pneumonia'"):
        findings_of(rows, options, "Pneumona")


def test_a_list_as_python_writes_it_is_taken_apart() -> None:
    rows = column(["['pneumonia', 'pleural effusion']", "['normal']", '["pneumonia"]'], "Labels")
    found = findings_of(rows, labelling(label_column="Labels", separator=","), None)
    assert list(found) == ["normal", "pleural effusion", "pneumonia"]
    assert as_list(found["pneumonia"]) == [True, False, True]


def test_a_column_of_names_is_no_label() -> None:
    rows = column([f"image {k}.png" for k in range(1001)], "label")
    with pytest.raises(
        DataError, match=r"column 'label' holds 1,001 different labels, such as 'image 0.png': is it the"
    ):
        findings_of(rows, labelling(), None)


def classes(findings: pd.DataFrame, positive: str | None, *, is_class: bool = False) -> list[str | None]:
    label = single_labels(findings, positive, is_class=is_class)
    return label.astype(object).where(label.notna(), None).tolist()


def test_one_finding_is_set_against_the_rest() -> None:
    table = pd.DataFrame({"A": [True, False, None], "B": [True, True, False]}, dtype="boolean")
    assert classes(table, "A") == ["A", "not A", None]
    with pytest.raises(ConfigError, match="--positive 'C' is no finding"):
        classes(table, "C")


def test_a_column_of_two_classes_keeps_both_names() -> None:
    table = pd.DataFrame({"NORMAL": [True, False], "PNEUMONIA": [False, True]}, dtype="boolean")
    assert classes(table, "PNEUMONIA", is_class=True) == ["NORMAL", "PNEUMONIA"]
    assert classes(table.assign(COVID=[False, False]), "PNEUMONIA", is_class=True) == ["not PNEUMONIA", "PNEUMONIA"]


def test_an_image_with_several_findings_has_no_class() -> None:
    table = pd.DataFrame({"A": [True, True], "B": [False, True]}, dtype="boolean", index=["x.png", "y.png"])
    with pytest.raises(
        DataError, match=r"1 of 2 images have not exactly one label, such as 'y.png' with 2 findings \(A, B"
    ):
        classes(table, None)
    with pytest.raises(DataError, match=r"such as 'y.png' with none of the findings: give --positive FINDING"):
        classes(table.assign(A=[True, False], B=[False, False]).astype("boolean"), None)
