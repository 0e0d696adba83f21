"""Whether predictions are no worse than other predictions of the same images, by more than a margin.

Both are judged on the same draws of patients. A metric holds if, with 95% confidence (one-sided), it is lower by no
more than its margin: that no difference is seen is not enough, where there are too few patients to see one.

Source: Piaggio et al., Reporting of noninferiority and equivalence randomized trials, JAMA 2012; Chen, Petrick &
Sahiner, Hypothesis testing in noninferiority and equivalence MRMC ROC studies, Acad Radiol 2012.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.evaluation.analyses import estimates_at, operating_points
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.bootstrap import CONFIDENCE
from cxr.metrics.estimates import Estimates, estimate

MARGINS = {"roc_auc": 0.002, "sensitivity": 0.005, "specificity": 0.005}
"""By how much each metric may be lower."""
RATES = ("sensitivity", "specificity")
MOST_PROBABLE = "most_probable"
"""The operating point of more than two classes: the most probable one is predicted."""
COLUMNS = ["class", "operating_point", "metric", "before", "before_ci_low", "before_ci_high"]
COLUMNS += ["after", "after_ci_low", "after_ci_high", "difference", "lower_bound", "margin", "holds", "share_changed"]


def judge(before: OutOfFold | FindingsOutOfFold, after: OutOfFold | FindingsOutOfFold) -> pd.DataFrame:
    """Return how the metrics of two sets of predictions differ, and whether the second set is no worse in each.

    Columns: class (or finding), operating_point (missing for roc_auc, which has none), metric (`roc_auc`, pooled over
    the folds; `sensitivity`, `specificity`), before, before_ci_low, before_ci_high, after, after_ci_low, after_ci_high,
    difference, lower_bound (of the difference, one-sided, 95%), margin, holds (whether the bound is above the negative
    margin; not if it is NaN), share_changed (of images that are called otherwise at the operating point).

    Args:
        before: out-of-fold predictions.
        after: others of the same images, in the same order.
    """
    if isinstance(before, FindingsOutOfFold) and isinstance(after, FindingsOutOfFold):
        rows = [
            row for name, then in before.by_finding.items() for row in _rows_of_two(then, after.by_finding[name], name)
        ]
    elif isinstance(before, OutOfFold) and isinstance(after, OutOfFold):
        rows = list((_rows_of_two if before.is_binary else _rows_of_more)(before, after))
    else:
        raise TypeError("both predictions have to be of classes, or both of findings")
    return pd.DataFrame(rows, columns=COLUMNS).astype({"operating_point": "str"})


def _rows_of_two(before: OutOfFold, after: OutOfFold, finding: str | None = None) -> Iterator[dict[str, Any]]:
    name = finding or before.classes[1]
    yield _row(name, None, "roc_auc", _ranked(before, 1), _ranked(after, 1))
    for then, now in zip(operating_points(before), operating_points(after), strict=True):
        changed = float((then.predicted != now.predicted).mean())
        for metric in RATES:
            row = _row(name, then.name, metric, estimates_at(before, then), estimates_at(after, now))
            yield row | {"share_changed": changed}


def _rows_of_more(before: OutOfFold, after: OutOfFold) -> Iterator[dict[str, Any]]:
    for name, _, column in before.one_vs_rest():
        ranked = _ranked(before, column), _ranked(after, column)
        yield _row(name, None, "roc_auc", *ranked)
        changed = float((_is_called(before, column) != _is_called(after, column)).mean())
        for metric in RATES:
            yield _row(name, MOST_PROBABLE, metric, *ranked) | {"share_changed": changed}


def _is_called(images: OutOfFold, column: int) -> NDArray[np.bool_]:
    return images.probability.argmax(axis=1) == column


def _ranked(images: OutOfFold, column: int) -> Estimates:
    """Return the metrics of a class against the rest, called where it is the most probable one."""
    score = images.probability[:, column]
    return estimate(images.target == column, _is_called(images, column), score, images.replicates)


def _row(name: str, point: str | None, metric: str, before: Estimates, after: Estimates) -> dict[str, Any]:
    then, now = before.row(metric), after.row(metric)
    drawn = after.replicates[metric] - before.replicates[metric]
    defined = drawn[~np.isnan(drawn)]
    bound = float(np.quantile(defined, 1 - CONFIDENCE)) if len(defined) else float("nan")
    margin = MARGINS[metric]
    return {
        "class": name,
        "operating_point": point,
        "metric": metric,
        "before": then["value"],
        "before_ci_low": then["ci_low"],
        "before_ci_high": then["ci_high"],
        "after": now["value"],
        "after_ci_low": now["ci_low"],
        "after_ci_high": now["ci_high"],
        "difference": now["value"] - then["value"],
        "lower_bound": bound,
        "margin": margin,
        "holds": bool(bound >= -margin),
        "share_changed": float("nan"),
    }
