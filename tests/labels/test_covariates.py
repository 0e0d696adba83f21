import pandas as pd
import pytest

from cxr.errors import DataError
from cxr.labels.covariates import subgroup_levels, weights_of


def levels(name: str, values: list[str | None]) -> list[str | None]:
    found = subgroup_levels(pd.Series(values, name=name, dtype="str"))
    return found.astype(object).where(found.notna(), None).tolist()


def test_ages_become_bands() -> None:
    ages = ["0", "17", "18", "039Y", "40", "59.5", "60", "79", "80", "104", "011M", "3D", None, "?"]
    bands = ["0 to 17"] * 2 + ["18 to 39"] * 2 + ["40 to 59"] * 2 + ["60 to 79"] * 2 + ["80 and over"] * 2
    assert levels("Patient Age", ages) == [*bands, "0 to 17", "0 to 17", None, None]
    assert levels("age", ["7"]) == ["0 to 17"]
    assert levels("stage", ["7"]) == ["7"]


def test_other_numbers_become_quarters_and_text_stays() -> None:
    assert levels("dose", [str(k) for k in range(12)]) == [
        f"{1 + k // 3} of 4, to {end}"
        for k, end in zip(range(12), ["2.75"] * 3 + ["5.5"] * 3 + ["8.25"] * 3 + ["11"] * 3, strict=True)
    ]
    assert levels("sex", ["M", "F", None]) == ["M", "F", None]


def test_a_column_of_names_is_no_subgroup() -> None:
    with pytest.raises(DataError, match="--subgroup-column 'name' has 21 different values, at most 20"):
        levels("name", [f"image {k}" for k in range(21)])


def test_weights_are_numbers_above_0() -> None:
    assert weights_of(pd.Series(["1", "0.5"])).tolist() == [1.0, 0.5]
    for wrong in ("0", "-1", "x", None, "inf", "nan"):
        with pytest.raises(DataError, match="--weight-column 'w' must hold a number above 0 for each image, got"):
            weights_of(pd.Series(["1", wrong], index=["a.png", "b.png"], name="w", dtype="str"))
