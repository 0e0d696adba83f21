"""Acquisition-only baseline: how well acquisition alone predicts the label. A network has to do better.

Where patients with the disease were imaged on another machine than the others, a network can score well without
looking at a lung. So a logistic regression predicts the label from the image's width, height, aspect, mean, contrast,
border and mode alone, under the same folds as the network.

Source: Zech et al., Variable generalization performance of a deep learning model to detect pneumonia in
chest radiographs, PLoS Med 2018.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import MACRO, Classes, Findings
from cxr.evaluation.findings import label_as_two_classes
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.calibration import predict_labels
from cxr.metrics.classification import COUNTS, Value, binary_metrics, multiclass_metrics
from cxr.metrics.estimates import estimate

NUMBERS = ["width", "height", "aspect", "mean", "contrast", "border"]
COLUMNS = ["features", "metric", "value", "mean", "sd", "reason"]


def measure_acquisition_baseline(
    manifest: pd.DataFrame, folds: pd.DataFrame, outputs: Classes | Findings
) -> pd.DataFrame:
    """Return the out-of-fold metrics of a logistic regression on acquisition features.

    Columns: features, metric, value (pooled over all images), mean and sd over folds (NaN where one is NaN), reason
    (why the value is NaN). `features` is `all`, with every metric, or a single feature, with its ROC-AUC. For more than
    two classes the metrics are the overall and the macro-averaged ones. Of several findings, each has the rows of its
    own, on the images where it is known, and its name in the first column, `class`.

    Args:
        manifest: columns path, status, width, height, mode, mean, contrast and border.
        folds: columns path, label and fold; of several findings also finding_<name>.
        outputs: in output order.
    """
    if isinstance(outputs, Findings):
        return pd.concat([_of_finding(manifest, folds, outputs, name) for name in outputs], ignore_index=True)
    return _of_classes(manifest, folds, outputs)


def _of_finding(manifest: pd.DataFrame, folds: pd.DataFrame, findings: Findings, name: str) -> pd.DataFrame:
    known = label_as_two_classes(folds, findings, name)
    baseline = _of_classes(manifest, known, findings.against_absence(name))
    baseline.insert(0, "class", name)
    return baseline


def _of_classes(manifest: pd.DataFrame, folds: pd.DataFrame, classes: Classes) -> pd.DataFrame:
    used = manifest.loc[manifest["status"] == "used"].drop(columns=["label", "image_id"])
    images = folds.merge(used, on="path", how="inner").sort_values("path", ignore_index=True)
    numbers, modes = _features(images)
    truth, fold = images["label"].to_numpy(dtype=str), images["fold"].to_numpy()
    rows = [{"features": "all", **row} for row in _evaluate(pd.concat([numbers, modes], axis=1), truth, fold, classes)]
    for name, feature in [*((name, numbers[[name]]) for name in NUMBERS), ("mode", modes)]:
        rows += [{"features": name, **r} for r in _evaluate(feature, truth, fold, classes) if r["metric"] == "roc_auc"]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"reason": "str"})


def compare_with_networks(images: OutOfFold, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the ROC-AUC of the networks and of acquisition alone on the same images, and the difference.

    Columns: class, model (`networks`, `acquisition` or `difference`), value, ci_low and ci_high (95%; all three from
    the same draws of the patients), reason (why the value is NaN).

    Args:
        images: of a run, with their folds.
        manifest: columns path, width, height, mode, mean, contrast and border; has every image.
    """
    truth = images.predictions["label"].to_numpy(dtype=str)
    known = manifest.set_index("path").loc[images.predictions["path"]]
    acquisition = _out_of_fold(pd.concat(_features(known), axis=1).to_numpy(), truth, images.fold, images.classes)
    rows = []
    for name, is_class, column in images.one_vs_rest():
        networks, alone = (
            estimate(is_class, score[:, column] >= 0.5, score[:, column], images.replicates)
            for score in (images.probability, acquisition)
        )
        value, low, high = networks.difference("roc_auc", alone)
        rows += [
            {"class": name, "model": "networks"} | networks.row("roc_auc"),
            {"class": name, "model": "acquisition"} | alone.row("roc_auc"),
            {"class": name, "model": "difference", "value": value, "ci_low": low, "ci_high": high},
        ]
    columns = ["class", "model", "value", "ci_low", "ci_high", "reason"]
    return pd.DataFrame(rows, columns=columns).astype({"reason": "str"})


def _features(images: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the numbers of each image, and an indicator of each mode."""
    numbers = images.assign(aspect=images["width"] / images["height"])[NUMBERS].astype(float)
    return numbers, pd.get_dummies(images["mode"], prefix="mode", dtype=float)


def _evaluate(
    features: pd.DataFrame, truth: NDArray[np.str_], fold: NDArray[np.integer], classes: Classes
) -> list[dict[str, object]]:
    """Return a row per metric of a regression on features, shape (n, n_features)."""
    probability = _out_of_fold(features.to_numpy(), truth, fold, classes)
    by_fold = pd.DataFrame([_values(truth[fold == k], probability[fold == k], classes) for k in np.unique(fold)])
    by_fold = by_fold.map(lambda value: value.value)
    mean, sd = by_fold.mean(skipna=False), by_fold.std(skipna=False)
    return [
        {"metric": name, "value": value, "mean": mean[name], "sd": sd[name], "reason": reason}
        for name, (value, reason) in _values(truth, probability, classes).items()
    ]


def _values(truth: NDArray[np.str_], probability: NDArray[np.float64], classes: Classes) -> dict[str, Value]:
    """Return the positive class's metrics; for more than two classes, the overall and the macro-averaged ones."""
    predicted = predict_labels(probability, classes)
    if classes.positive is not None:
        values = binary_metrics(truth == classes.positive, predicted == classes.positive, probability[:, 1])
    else:
        by_class = multiclass_metrics(truth, predicted, probability, classes)
        values = by_class[None] | by_class[MACRO]
    return {name: value for name, value in values.items() if name not in COUNTS}


def _out_of_fold(
    features: NDArray[np.float64], truth: NDArray[np.str_], fold: NDArray[np.integer], classes: Classes
) -> NDArray[np.float64]:
    """Return each image's probabilities from the regression that was not fitted on its fold, shape (n, n_classes)."""
    from sklearn.linear_model import LogisticRegression  # takes a second, and scoring does not need it
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probability = np.zeros((len(truth), len(classes)))
    for held_out in np.unique(fold):
        train = fold != held_out
        test = ~train
        if len(np.unique(truth[train])) == 1:  # one class to learn from: it is predicted for every image
            probability[test, classes.index(truth[train][0])] = 1
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
        model.fit(features[train], truth[train])
        columns = [classes.index(name) for name in model.classes_]
        probability[np.ix_(test, columns)] = model.predict_proba(features[test])
    return probability
