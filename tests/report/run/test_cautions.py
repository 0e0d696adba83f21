from typing import Any

import pandas as pd
import pytest

from cxr.report.run.cautions import cautions_of, drops, failed, is_surely_better

SURELY_BETTER = pd.DataFrame(
    [("sick", "networks", 0.98), ("sick", "acquisition", 0.6), ("sick", "difference", 0.3)],
    columns=["class", "model", "ci_low"],
)
CERTIFICATE: dict[str, Any] = {"holdout": "test", "n_images_without_patient_id": 0}
TEST: dict[str, Any] = {"n_ensembles": 1, "is_current": True}
PASSED = pd.DataFrame({"passed": [True], "severity": "warning", "sentence": "All is well."})


def gap(outside_high: float, metric: str = "specificity", point: str = "youden") -> pd.DataFrame:
    row = {"operating_point": point, "class": "sick", "metric": metric, "inside_low": 0.9, "outside_high": outside_high}
    return pd.DataFrame([row])


def cautions(**changes: Any) -> list[str]:
    facts: dict[str, Any] = {
        "comparison": SURELY_BETTER,
        "certificate": CERTIFICATE,
        "tests": {"held_out_test": TEST},
        "gaps": {"held_out_test/gap": gap(0.95)},
        "expectations": failed(PASSED),
    }
    return cautions_of(**facts | changes)  # pyright: ignore[reportReturnType]


def test_a_run_that_gives_no_reason_has_no_caution() -> None:
    assert cautions() == []


@pytest.mark.parametrize(
    ("changes", "caution"),
    [
        ({"comparison": SURELY_BETTER.assign(ci_low=-0.01)}, "acquisition"),
        ({"gaps": {"held_out_test/gap": gap(0.89)}}, "falls off"),
        ({"tests": {}}, "not opened"),
        ({"tests": {}, "certificate": CERTIFICATE | {"holdout": None}}, "no test"),
        ({"tests": {"held_out_test": TEST | {"n_ensembles": 2}}}, "opened again"),
        ({"tests": {"held_out_test": TEST, "external_tests/a": TEST | {"is_current": False}}}, "out of date"),
        ({"certificate": CERTIFICATE | {"n_images_without_patient_id": 3}}, "patients"),
        ({"certificate": CERTIFICATE | {"patients_remark": "no patient is known to have two images"}}, "patients"),
        ({"expectations": failed(PASSED.assign(passed=False))}, "checks"),
        ({"expectations": None}, "unchecked"),
    ],
)
def test_each_reason_for_caution_is_found(changes: dict[str, Any], caution: str) -> None:
    assert cautions(**changes) == [caution]


def test_a_difference_without_an_interval_or_in_one_class_alone_is_not_sure() -> None:
    assert not is_surely_better(SURELY_BETTER.assign(ci_low=float("nan")))
    other = SURELY_BETTER.assign(**{"class": "very sick"}, ci_low=-0.1)
    assert not is_surely_better(pd.concat([SURELY_BETTER, other]))


def test_a_test_set_falls_off_where_its_interval_lies_below_at_the_headline_operating_point() -> None:
    assert [row["metric"] for row in drops(gap(0.89))] == ["specificity"]
    assert drops(gap(0.9)) == []
    assert drops(gap(float("nan"))) == [], "without an interval nothing is sure"
    assert drops(gap(0.1, metric="precision")) == [], "precision follows the prevalence of the set"
    both = pd.concat([gap(0.5, point="half"), gap(0.95)])
    assert drops(both) == [], "another operating point is not in the headline"
    overall = gap(0.5, metric="roc_auc", point="most_probable").assign(**{"class": float("nan")})
    assert [(row["class"], row["metric"]) for row in drops(overall)] == [(None, "roc_auc")]


def test_failed_checks_are_listed_with_the_gravest_first_and_information_is_none() -> None:
    rows = pd.DataFrame(
        [(False, "warning", "a"), (False, "info", "b"), (True, "critical", "c"), (False, "critical", "d")],
        columns=["passed", "severity", "sentence"],
    )
    assert failed(rows)["sentence"].tolist() == ["d", "a"]
