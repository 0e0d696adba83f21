"""Whether a challenger is shown to be worse than the champion, on the images that both predicted out of fold.

The comparison is paired: patients are drawn with replacement, the same for both.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes, Findings
from cxr.metrics.bootstrap import CONFIDENCE, draw_groups, percentile_interval, replicate_metrics
from cxr.serving.package import Package


@dataclass(frozen=True)
class Difference:
    """How the ROC-AUCs of two versions differ on the same images; for more than two classes, their means."""

    before: float
    after: float
    value: float
    """The second less the first."""
    ci_low: float
    ci_high: float
    """95% interval of the difference, over groups."""
    n_images: int
    n_groups: int


def compare(champion: Package, challenger: Package) -> tuple[str, bool]:
    """Return a sentence on how a challenger's ROC-AUC differs from the champion's, and whether it is worse.

    For more than two classes ROC-AUC is the mean over classes; of several findings, each is compared. A challenger with
    other classes, with too few shared images to compare, or whose folds left out something else, counts as worse. For
    two classes, one with the champion's networks and another calibration is not compared: they rank images alike, but
    for probabilities that round to 1.
    """
    if hindrance := _hindrance(champion, challenger):
        return hindrance, True
    outputs = champion.outputs
    if isinstance(outputs, Findings):
        return compare_findings(champion.images(), challenger.images(), outputs)
    if outputs.is_binary and _differs_in_calibration_alone(champion, challenger):
        return "it has the champion's networks, which rank images alike", False
    return compare_classes(champion.images(), challenger.images(), outputs)


def _hindrance(champion: Package, challenger: Package) -> str | None:
    """Return why the two cannot be compared; None if they can."""
    before, after = champion.outputs, challenger.outputs
    if before != after or type(before) is not type(after):
        return f"its classes are {_described(after)}, the champion's {_described(before)}"
    if champion.leave_out != challenger.leave_out:
        return (
            f"its folds left out a {challenger.leave_out} each, the champion's a {champion.leave_out}, and "
            "clusters are harder: package a run with the champion's --leave-out"
        )
    return None


def _described(outputs: Classes | Findings) -> str:
    names = str(tuple(outputs))
    return f"{names} (several findings per image)" if isinstance(outputs, Findings) else names


def _differs_in_calibration_alone(champion: Package, challenger: Package) -> bool:
    before, after = (package.facts["identity"]["weights"] for package in (champion, challenger))
    return before == after and champion.calibration != challenger.calibration


def compare_classes(before: pd.DataFrame, after: pd.DataFrame, classes: Classes) -> tuple[str, bool]:
    """Return a sentence on how the ROC-AUCs of two classes or more differ, and whether the second is worse.

    Args:
        before: the images of the champion, with label and probability_<class>.
        after: those of the challenger.
        classes: of both.
    """
    shared = before.merge(after, on=["image_id", "label"], suffixes=("_before", "_after"))
    if shared["label"].nunique() < len(classes):
        return f"it shares {len(shared)} images with the champion, too few to compare the two on", True
    found = paired_difference(shared.assign(group_id=shared["group_before"]), classes)
    sentence = (
        f"ROC-AUC {found.after:.4f} against {found.before:.4f} on {len(shared):,} shared images, "
        f"difference {found.value:+.4f} [{found.ci_low:+.4f}, {found.ci_high:+.4f}]"
    )
    return sentence, found.ci_high < 0


def paired_difference(images: pd.DataFrame, classes: Classes) -> Difference:
    """Return how the ROC-AUCs of two versions differ: groups are drawn with replacement, the same for both.

    Args:
        images: columns label, group_id, and probability_<class>_before and _after; each class has an image.
        classes: two or more.
    """
    group = images["group_id"].factorize()[0].astype(np.int64)
    n_groups = int(group.max()) + 1
    drawn = draw_groups(n_groups)
    before, after = (_auc_replicates(images, classes, when, group, drawn) for when in ("before", "after"))
    once = np.ones((1, n_groups))  # every patient once: the images themselves
    first, second = (float(_auc_replicates(images, classes, when, group, once)[0]) for when in ("before", "after"))
    low, high = percentile_interval(after - before)
    return Difference(first, second, second - first, low, high, len(images), n_groups)


def _auc_replicates(
    images: pd.DataFrame, classes: Classes, when: str, group: NDArray[np.int64], drawn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the ROC-AUC in each replicate, shape (n_replicates,), with the probabilities from before or after."""
    truth = images["label"].to_numpy(dtype=str)
    values = [
        replicate_metrics(truth == c, truth == c, images[f"probability_{c}_{when}"].to_numpy(), group, drawn)["roc_auc"]
        for c in classes.evaluated
    ]
    return np.mean(values, axis=0)


def compare_findings(before: pd.DataFrame, after: pd.DataFrame, findings: Findings) -> tuple[str, bool]:
    """Return a sentence on how the ROC-AUCs of findings differ, and whether one of them is worse.

    A finding is worse if the upper bound of its difference is below 0, at a confidence that grows with their number,
    so that a challenger as good as the champion is refused for chance alone as rarely as with a single finding
    (Bonferroni).

    Args:
        before: the images of the champion, with finding_<name> and probability_<name>.
        after: those of the challenger.
        findings: of both.
    """
    keys = ["image_id", *findings.columns]
    shared = before.merge(after, on=keys, suffixes=("_before", "_after"))
    group = shared["group_before"].factorize()[0].astype(np.int64)
    too_few = f"it shares {len(shared)} images with the champion, too few to compare the two on"
    if len(np.unique(group)) < 2 or (shared[findings.columns].nunique() < 2).any():
        return too_few, True
    drawn = np.vstack([np.ones((1, int(group.max()) + 1)), draw_groups(int(group.max()) + 1)])
    differences = np.array([_auc_difference(shared, name, group, drawn) for name in findings])
    point, replicates = differences[:, 0], differences[:, 1:]
    if np.isnan(replicates).all(axis=1).any():  # all images in which a finding is known are of one patient
        return too_few, True
    tail = 100 * (1 - CONFIDENCE) / 2 / len(findings)
    high = [float(np.percentile(row[~np.isnan(row)], 100 - tail)) for row in replicates]
    low_macro, high_macro = percentile_interval(replicates.mean(axis=0))
    sentence = (
        f"mean ROC-AUC over {len(findings)} findings on {len(shared):,} shared images: difference "
        f"{point.mean():+.4f} [{low_macro:+.4f}, {high_macro:+.4f}]"
    )
    worse = [f"{name} {point[k]:+.4f} (at most {high[k]:+.4f})" for k, name in enumerate(findings) if high[k] < 0]
    if worse:
        return f"{sentence}; worse, corrected for the number of findings: {', '.join(worse)}", True
    return f"{sentence}; no finding is shown to be worse", False


def _auc_difference(
    shared: pd.DataFrame, name: str, group: NDArray[np.int64], drawn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return by how much the ROC-AUC of a finding differs in each draw, on the images where it is known."""
    (column,) = Findings([name]).columns
    known = shared[column].notna().to_numpy(bool)
    truth = shared.loc[known, column].to_numpy(bool)
    values = [
        replicate_metrics(truth, truth, shared.loc[known, f"probability_{name}_{when}"].to_numpy(), group[known], drawn)
        for when in ("before", "after")
    ]
    return values[1]["roc_auc"] - values[0]["roc_auc"]
