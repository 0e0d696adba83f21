"""Runs compared on the images that all of them have predicted: how metrics differ, and which predictions changed.

An appraisal of predictions that another program made stands beside runs: its images are found by their id, or else by
their path, as those in a table of labels are.

Everything is paired: each replicate of the bootstrap draws the same patients for every run. DeLong's test is for
ROC-AUC, a permutation test over patients for accuracy; neither is corrected for the number of runs.

Source: McNemar, Psychometrika 1947, which the permutation test is where every patient has one image; Good, Permutation,
Parametric, and Bootstrap Tests of Hypotheses, 2005, ch. 3; for DeLong's test see `cxr.metrics.delong`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes, Findings, outputs_of_record
from cxr.config import ADDED
from cxr.dataset.findings import describe_findings
from cxr.errors import RunError
from cxr.evaluation.findings import as_two_classes, is_known
from cxr.evaluation.on_request.appraisal import outputs_of_appraisal
from cxr.evaluation.out_of_fold import predicted_images
from cxr.evaluation.tables import estimates_by_class
from cxr.labels.matching import match_files
from cxr.metrics.bootstrap import Replicates
from cxr.metrics.classification import COUNTS
from cxr.metrics.delong import auc_difference
from cxr.storage import files, verified
from cxr.storage.appraisal_folder import AppraisalFolder
from cxr.storage.run_folder import ComparisonFolder, RunFolder


@dataclass(frozen=True)
class Comparison:
    """Two or more runs on the same images."""

    n_images: int
    """Images that all runs have predicted."""
    n_others: dict[str, int]
    """Per run: images that it has predicted and not all others."""
    metrics: pd.DataFrame
    """Columns: run, class, metric, value, difference (from the first run), ci_low, ci_high (of the difference), test,
    p_value."""
    changed: pd.DataFrame
    """Images that the runs do not predict alike: image_id, path, label, predicted_<run> and probability_<run> per run,
    right. With several findings per image, a row for each finding that is not predicted alike, with it as `class`."""
    is_unlike: bool = False
    """Whether the folds of some runs leave out clusters and those of others patients: their images are harder."""


@dataclass(frozen=True)
class _Subject:
    """What is compared: a run, or an appraisal."""

    name: str
    outputs: Classes | Findings
    predictions: pd.DataFrame
    """With image_id as its index."""
    leave_out: str | None
    """What the folds leave out; None for an appraisal."""
    knows_patients: bool = True

    @property
    def title(self) -> str:
        return f"{'run' if self.leave_out else 'appraisal'} {self.name!r}"


def compare(runs: Sequence[RunFolder | AppraisalFolder]) -> Comparison:
    """Compare finished runs and appraisals with the first of them.

    Raises:
        RunError: there are fewer than two runs, or one of them twice; a run has no tables; classes or labels differ; or
            the runs have no image in common.
    """
    names = [run.run_id if isinstance(run, RunFolder) else run.name for run in runs]
    if len(set(names)) < max(2, len(names)):
        raise RunError(f"a comparison needs two or more different runs, got {', '.join(names) or 'none'}.")
    subjects = [_of_run(run) if isinstance(run, RunFolder) else _of_appraisal(run) for run in runs]
    classes = _common_classes(subjects)
    tables = _on_the_same_ids(subjects)
    common = sorted(set.intersection(*(set(table.index) for table in tables)))
    if not common:
        raise RunError(f"runs {', '.join(names)} have no image in common: compare runs on the same data.")
    images = {name: table.loc[common] for name, table in zip(names, tables, strict=True)}
    _require_same_labels(images, classes)
    n_others = {name: len(table) - len(common) for name, table in zip(names, tables, strict=True)}
    is_unlike = len({subject.leave_out for subject in subjects if subject.leave_out}) > 1
    knowing = next((subject.name for subject in subjects if subject.knows_patients), names[0])
    groups = images[knowing]["group_id"]
    changed = _changed_findings(images, classes) if isinstance(classes, Findings) else _changed(images, classes)
    return Comparison(len(common), n_others, _metrics(images, classes, groups), changed, is_unlike)


def _of_run(run: RunFolder) -> _Subject:
    record = verified.read_record(run.config)
    if not verified.exists(run.predictions):
        raise RunError(f"run {run.run_id!r} has no tables yet: finish it, or type `cxr evaluate {run.run_id}`.")
    predictions = verified.read_table(run.predictions).set_index("image_id")
    leave_out = record["config"].get("leave_out", ADDED["leave_out"])
    return _Subject(run.run_id, outputs_of_record(record), predictions, leave_out)


def _of_appraisal(folder: AppraisalFolder) -> _Subject:
    record = verified.read_record(folder.record)
    predictions = verified.read_table(folder.predictions).set_index("image_id")
    return _Subject(folder.name, outputs_of_appraisal(record), predictions, None, bool(record["n_patients"]))


def _on_the_same_ids(subjects: Sequence[_Subject]) -> list[pd.DataFrame]:
    """Return the predictions by image id; of an appraisal with ids of its own, by those of the images at its paths."""
    reference = next((subject for subject in subjects if subject.leave_out), subjects[0]).predictions
    ids = pd.Series(reference.index, reference["path"])
    tables = []
    for subject in subjects:
        table = subject.predictions
        if subject.leave_out is None and table is not reference and not table.index.isin(reference.index).any():
            file = table["path"].map(match_files(table["path"].tolist(), reference["path"].tolist()))
            table = table.set_axis(pd.Index(file.map(ids).where(file.notna(), table.index), name="image_id"), axis=0)
        tables.append(table)
    return tables


def write_comparison(folder: ComparisonFolder, comparison: Comparison) -> None:
    """Write the comparison's two tables."""
    files.write_table(folder.metrics, comparison.metrics)
    files.write_table(folder.changed_images, comparison.changed)


def permute_runs(right_before: NDArray[np.bool_], right_after: NDArray[np.bool_], group: NDArray[np.int64]) -> float:
    """Return the two-sided p value of a difference in accuracy; 1 where no patient's number of correct images changed.

    If the runs are equally good, it is chance which of the two a patient's predictions come from. All exchanges are
    counted where 12 patients or fewer changed, else 9,999 drawn ones, so that p is 0.0002 or more.

    Args:
        right_before: shape (n,), whether the first run predicts the image correctly.
        right_after: shape (n,), whether the second run does.
        group: shape (n,), index of each image's patient.
    """
    from scipy.stats import permutation_test  # takes a second, and only comparisons need it

    won = np.bincount(group, right_after.astype(float) - right_before)
    changed = won[won != 0]
    if not len(changed):
        return 1.0
    changed = np.append(changed, 0)  # scipy wants two or more, and this one changes no sum
    exchanged = permutation_test((changed,), np.sum, permutation_type="samples", vectorized=True, batch=500, rng=0)
    return float(exchanged.pvalue)


def _common_classes(subjects: Sequence[_Subject]) -> Classes | Findings:
    first, *others = subjects
    for other in others:
        if not _are_alike(first.outputs, other.outputs):
            raise RunError(
                f"{other.title} has {_kind(other.outputs)} {', '.join(other.outputs)}, {first.title} has "
                f"{_kind(first.outputs)} {', '.join(first.outputs)}: compare runs with the same {_kind(first.outputs)}."
            )
    return first.outputs


def _are_alike(first: Classes | Findings, other: Classes | Findings) -> bool:
    """Return whether outputs are the same classes in the same order, or the same findings in any order."""
    if isinstance(first, Findings) and isinstance(other, Findings):
        return set(first) == set(other)
    return type(first) is type(other) and first == other


def _kind(outputs: Classes | Findings) -> str:
    return "findings" if isinstance(outputs, Findings) else "classes"


def _labels(images: pd.DataFrame, outputs: Classes | Findings) -> pd.Series:
    """Return the label of each image, as one text, with findings in the order of `outputs`."""
    return describe_findings(images[outputs.columns]) if isinstance(outputs, Findings) else images["label"]


def _require_same_labels(images: dict[str, pd.DataFrame], outputs: Classes | Findings) -> None:
    (first, labels), *others = ((name, _labels(table, outputs)) for name, table in images.items())
    for name, other in others:
        n_differ = int((labels.to_numpy() != other.to_numpy()).sum())
        if n_differ:
            raise RunError(
                f"runs {first!r} and {name!r} give {n_differ} images different labels: they cannot be compared."
            )


def _metrics(images: dict[str, pd.DataFrame], classes: Classes | Findings, groups: pd.Series) -> pd.DataFrame:
    first = next(iter(images.values()))
    replicates = Replicates.of(groups)
    base = estimates_by_class(first, classes, replicates)
    rows: list[dict[str, Any]] = []
    for run, table in images.items():
        for name, estimates in estimates_by_class(table, classes, replicates).items():
            for metric in (m for m in estimates.values if m not in COUNTS):
                row = {"run": run, "class": name, "metric": metric, "value": estimates.values[metric].value}
                if table is not first:
                    difference = estimates.difference(metric, base[name])
                    row |= dict(zip(("difference", "ci_low", "ci_high"), difference, strict=True))
                    row |= _test_of(metric, name, first, table, classes, replicates.group)
                rows.append(row)
    columns = ["run", "class", "metric", "value", "difference", "ci_low", "ci_high", "test", "p_value"]
    return pd.DataFrame(rows, columns=columns).astype({"class": "str", "test": "str"})


def _test_of(
    metric: str,
    name: str | None,
    before: pd.DataFrame,
    after: pd.DataFrame,
    outputs: Classes | Findings,
    group: NDArray[np.int64],
) -> dict[str, Any]:
    """Return the test for a metric and its p value, of a finding on the images where it is known."""
    if not isinstance(outputs, Findings):
        return _test(metric, name, before, after, outputs, group)
    if name is None or name not in outputs:
        return {}
    known = is_known(before, name)
    first, second = (as_two_classes(images, outputs, name) for images in (before, after))
    return _test(metric, name, first, second, outputs.against_absence(name), group[known])


def _test(
    metric: str,
    name: str | None,
    before: pd.DataFrame,
    after: pd.DataFrame,
    classes: Classes,
    group: NDArray[np.int64],
) -> dict[str, Any]:
    """Return the test for a metric and its p value; nothing where there is no test for it."""
    if metric == "accuracy":
        p_value = permute_runs(_are_right(before, classes), _are_right(after, classes), group)
        return {"test": "permutation", "p_value": p_value}
    if metric == "roc_auc" and name in classes:
        truth = (before["label"] == name).to_numpy()
        scores = [predicted_images(table, classes)[2][:, classes.index(name)] for table in (before, after)]
        return {"test": "DeLong", "p_value": auc_difference(truth, scores[0], scores[1], group)[1]}
    return {}


def _are_right(images: pd.DataFrame, classes: Classes) -> NDArray[np.bool_]:
    truth, predicted, _ = predicted_images(images, classes)
    return truth == predicted


def _changed_findings(images: dict[str, pd.DataFrame], findings: Findings) -> pd.DataFrame:
    parts = []
    for name in findings:
        known = {run: as_two_classes(table, findings, name) for run, table in images.items()}
        changed = _changed(known, findings.against_absence(name))
        parts.append(changed.assign(**{"class": name}))
    return pd.concat(parts, ignore_index=True)


def _changed(images: dict[str, pd.DataFrame], classes: Classes) -> pd.DataFrame:
    first = next(iter(images.values()))
    table = first[["path", "label"]].reset_index()
    predicted = {}
    for run, rows in images.items():
        _, predicted[run], probability = predicted_images(rows, classes)
        shown = probability[:, 1] if classes.is_binary else probability.max(axis=1)
        table = table.assign(**{f"predicted_{run}": predicted[run], f"probability_{run}": shown})
    right = pd.DataFrame({run: _are_right(rows, classes) for run, rows in images.items()})
    table["right"] = [", ".join(right.columns[row]) or "none" for row in right.to_numpy()]
    is_changed = pd.DataFrame(predicted).nunique(axis=1) > 1
    return table[is_changed].sort_values("path", ignore_index=True)
