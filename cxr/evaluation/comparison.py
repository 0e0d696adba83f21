"""Runs side by side: on the images that all have judged, how their metrics differ, and which images changed sides.

Everything is paired: each replicate of the bootstrap draws the same patients for every run. DeLong's test speaks
of ROC-AUC, McNemar's of accuracy; neither corrects for the number of runs that are compared.

Source: McNemar, Psychometrika 1947 (exact, by the binomial distribution); for DeLong's test see `delong`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from cxr.classes import Classes
from cxr.errors import RunError
from cxr.evaluation.tables import judged, metrics_by_class, replicates_by_class
from cxr.metrics.bootstrap import draw_groups, percentile_interval
from cxr.metrics.classification import COUNTS
from cxr.metrics.delong import auc_difference
from cxr.storage import files
from cxr.storage.run_folder import ComparisonFolder, RunFolder


@dataclass(frozen=True)
class Comparison:
    """What two or more runs say of the same images."""

    n_images: int
    """Images that all have judged."""
    n_others: dict[str, int]
    """Images that a run has judged and not all others."""
    metrics: pd.DataFrame
    """run, class, metric, value, difference (from the first run), ci_low, ci_high (of it), test, p_value."""
    changed: pd.DataFrame
    """Images that are not called alike: image_id, path, label, then called_<run> and probability_<run>, right."""


def compare(runs: Sequence[RunFolder]) -> Comparison:
    """Compare finished runs with the first of them.

    Raises:
        RunError: fewer than two runs, one of them twice, one without tables, other classes, or no images in common.
    """
    names = [run.run_id for run in runs]
    if len(set(names)) < max(2, len(names)):
        raise RunError(f"two or more different runs are needed to compare, got {', '.join(names) or 'none'}.")
    classes = _common_classes(runs)
    tables = [_read(run) for run in runs]
    common = sorted(set.intersection(*(set(table.index) for table in tables)))
    if not common:
        raise RunError(f"runs {', '.join(names)} have no image in common: compare runs on the same data.")
    images = {name: table.loc[common] for name, table in zip(names, tables, strict=True)}
    _require_same_labels(images)
    n_others = {name: len(table) - len(common) for name, table in zip(names, tables, strict=True)}
    return Comparison(len(common), n_others, _metrics(images, classes), _changed(images, classes))


def write_comparison(folder: ComparisonFolder, comparison: Comparison) -> None:
    """Write the comparison's two tables."""
    files.write_table(folder.metrics, comparison.metrics)
    files.write_table(folder.changed_images, comparison.changed)


def mcnemar(right_before: NDArray[np.bool_], right_after: NDArray[np.bool_]) -> float:
    """Return the exact two-sided p value of images that only one of two runs calls rightly; 1 if there are none."""
    lost, won = int((right_before & ~right_after).sum()), int((~right_before & right_after).sum())
    return float(binomtest(won, lost + won).pvalue) if lost + won else 1.0


def _common_classes(runs: Sequence[RunFolder]) -> Classes:
    by_run = {run.run_id: Classes(files.read_record(run.config)["classes"]) for run in runs}
    first, *others = by_run.items()
    for name, classes in others:
        if classes != first[1]:
            raise RunError(
                f"run {name!r} has classes {', '.join(classes)}, run {first[0]!r} has {', '.join(first[1])}: "
                "compare runs with the same classes."
            )
    return first[1]


def _read(run: RunFolder) -> pd.DataFrame:
    if not run.predictions.exists():
        raise RunError(f"run {run.run_id!r} has no tables yet: finish it, or type `cxr evaluate {run.run_id}`.")
    return files.read_table(run.predictions).set_index("image_id")


def _require_same_labels(images: dict[str, pd.DataFrame]) -> None:
    (first, labels), *others = ((name, table["label"]) for name, table in images.items())
    for name, other in others:
        n_differ = int((labels.to_numpy() != other.to_numpy()).sum())
        if n_differ:
            raise RunError(
                f"runs {first!r} and {name!r} give {n_differ} images different labels: they cannot be compared."
            )


def _metrics(images: dict[str, pd.DataFrame], classes: Classes) -> pd.DataFrame:
    first = next(iter(images.values()))
    group = first["group_id"].factorize()[0].astype(np.int64)
    drawn = draw_groups(int(group.max()) + 1)
    base_values, base_replicates = metrics_by_class(first, classes), replicates_by_class(first, classes, group, drawn)
    rows: list[dict[str, Any]] = []
    for run, table in images.items():
        values, replicates = metrics_by_class(table, classes), replicates_by_class(table, classes, group, drawn)
        for name, by_metric in values.items():
            for metric in (m for m in by_metric if m not in COUNTS):
                row = {"run": run, "class": name, "metric": metric, "value": by_metric[metric].value}
                if table is not first:
                    change = replicates[name][metric] - base_replicates[name][metric]
                    low, high = percentile_interval(change)
                    row["difference"] = row["value"] - base_values[name][metric].value
                    row |= {"ci_low": low, "ci_high": high} | _test(metric, name, first, table, classes, group)
                rows.append(row)
    columns = ["run", "class", "metric", "value", "difference", "ci_low", "ci_high", "test", "p_value"]
    return pd.DataFrame(rows, columns=columns).astype({"class": "str", "test": "str"})


def _test(
    metric: str,
    name: str | None,
    before: pd.DataFrame,
    after: pd.DataFrame,
    classes: Classes,
    group: NDArray[np.int64],
) -> dict[str, Any]:
    """Return the test that speaks of a metric, and its p value; nothing where there is none."""
    if metric == "accuracy":
        return {"test": "McNemar", "p_value": mcnemar(_are_right(before, classes), _are_right(after, classes))}
    if metric == "roc_auc" and name in classes:
        truth = (before["label"] == name).to_numpy()
        one, other = (images[f"probability_{name}"].to_numpy() for images in (before, after))
        return {"test": "DeLong", "p_value": auc_difference(truth, one, other, group)[1]}
    return {}


def _are_right(images: pd.DataFrame, classes: Classes) -> NDArray[np.bool_]:
    truth, predicted, _ = judged(images, classes)
    return truth == predicted


def _changed(images: dict[str, pd.DataFrame], classes: Classes) -> pd.DataFrame:
    first = next(iter(images.values()))
    table = first[["path", "label"]].reset_index()
    predicted = {}
    for run, rows in images.items():
        _, predicted[run], probability = judged(rows, classes)
        asked_for = probability[:, 1] if len(classes) == 2 else probability.max(axis=1)
        table = table.assign(**{f"called_{run}": predicted[run], f"probability_{run}": asked_for})
    right = pd.DataFrame({run: _are_right(rows, classes) for run, rows in images.items()})
    table["right"] = [", ".join(right.columns[row]) or "none" for row in right.to_numpy()]
    calls = pd.DataFrame(predicted)
    return table[calls.nunique(axis=1) > 1].sort_values("path", ignore_index=True)
