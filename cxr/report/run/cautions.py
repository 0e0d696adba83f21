"""What a reader has to know before the figures of a run: the cautions that its tables give reason for.

The report has a sentence for each, with the numbers, on its first screen.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from cxr.report.results import FOLD_METRICS, HEADLINE

Caution = Literal[
    "acquisition",  # the networks are not surely better than acquisition alone
    "falls off",  # a test outside cross-validation is surely lower
    "not opened",  # the held-out test set was not evaluated
    "no test",  # there is no test outside cross-validation
    "opened again",  # a held-out test set was opened by several ensembles: folds were trained again in between
    "out of date",  # a test is of weights from before
    "patients",  # of some images or of all, the patient is unknown
    "checks",  # expectations of the data failed
    "unchecked",  # the data were not checked
]


def cautions_of(
    comparison: pd.DataFrame,
    certificate: Mapping[str, Any],
    tests: Mapping[str, Mapping[str, Any]],
    gaps: Mapping[str, pd.DataFrame],
    expectations: pd.DataFrame | None,
) -> list[Caution]:
    """Return the cautions of a run, the gravest first.

    Args:
        comparison: as `cxr.evaluation.acquisition_baseline.compare_with_networks` returns it.
        certificate: the certificate of no leakage.
        tests: outside cross-validation, by their place, as `cxr.report.run.outside.openings` returns them.
        gaps: the table `gap` of each, by its place.
        expectations: of the data checks; None if they were not run.
    """
    held_out = tests.get("held_out_test")
    reasons: dict[Caution, bool] = {
        "acquisition": not is_surely_better(comparison),
        "falls off": any(drops(gap) for gap in gaps.values()),
        "out of date": not all(test["is_current"] for test in tests.values()),
        "opened again": held_out is not None and held_out["n_ensembles"] > 1,
        "not opened": bool(certificate["holdout"]) and held_out is None,
        "no test": not certificate["holdout"] and not tests,
        "patients": bool(certificate["n_images_without_patient_id"] or certificate.get("patients_remark")),
        "checks": expectations is not None and not expectations.empty,
        "unchecked": expectations is None,
    }
    return [caution for caution, holds in reasons.items() if holds]


def is_surely_better(comparison: pd.DataFrame) -> bool:
    """Return whether the networks' ROC-AUC is above that of acquisition alone in every class, at 95%.

    A difference whose interval is unknown is not sure.
    """
    differences = comparison[comparison["model"] == "difference"]
    return bool((differences["ci_low"] > 0).all())


def drops(gap: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Return the rows of a test's `gap` whose interval lies below that of cross-validation; missing values are None.

    Of two classes the rows are those at the headline operating point.
    """
    at_headline = gap["operating_point"] == HEADLINE
    shown = (gap[at_headline] if at_headline.any() else gap).dropna(subset=["outside_high", "inside_low"])
    shown = shown[shown["metric"].isin(FOLD_METRICS) & (shown["outside_high"] < shown["inside_low"])]
    shown = shown.astype(object)
    return shown.where(shown.notna(), None).to_dict("records")


def failed(expectations: pd.DataFrame, severities: Sequence[str] = ("critical", "warning")) -> pd.DataFrame:
    """Return the expectations of these severities that do not hold, the gravest first."""
    rows = expectations[~expectations["passed"] & expectations["severity"].isin(severities)]
    return rows.sort_values("severity", key=lambda severity: severity.map(severities.index), kind="stable")
