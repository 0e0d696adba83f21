"""Drift: how a batch differs from the images that the model was evaluated on. No label is needed.

Three kinds of statistics are compared. *Acquisition*: size and grey levels. *Features*: an image's novelty, that is how
far it lies from the training images in the network's features and in where it is bright and dark. *Scores*: the
calibrated probability. Each is compared with the model's out-of-fold images by a two-sample Kolmogorov-Smirnov test.
The p-values are corrected for their number (Holm). As any difference is significant in a large batch, the size of the
difference (the KS distance, 0 to 1) counts as well.

A batch with many novel images may hold no chest radiographs at all. Novelty is decided image by image, so this works
for small batches too. The batch's accuracy is estimated from the calibrated probabilities alone.

Source: Rabanser et al., Failing loudly, NeurIPS 2019 (tests on univariate statistics with correction);
Mahalanobis distance with a residual for novelty: Lee et al., NeurIPS 2018; Ndiour et al. 2020; estimated
accuracy: Guillory et al., ICCV 2021 (average confidence).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes, Findings

ACQUISITION = ["width", "height", "mean", "contrast", "border", "dark_share", "bright_share"]
COLUMNS = ["group", "statistic", "n", "n_reference", "value", "reference", "effect", "p_value"]
NOVEL_QUANTILE = 0.99
"""An image is novel if its novelty exceeds this quantile of the reference images."""
CONFIDENCE = 0.999
"""Of the lower bound on the share of novel images."""
EXACT = 100
"""The p-value is exact where one of the samples is smaller than this."""


def compare(images: pd.DataFrame, reference: pd.DataFrame, outputs: Classes | Findings) -> pd.DataFrame:
    """Return one row per statistic: group, statistic, n, n_reference, value, reference, effect, p_value.

    In the groups `acquisition`, `features` and `scores`, `value` and `reference` are medians, `effect` is the KS
    distance, and `p_value` is corrected. In the group `novel_images`, `value` is the share of novel images in the
    batch, `reference` the expected share, and `effect` the lower bound of the batch's share at a confidence of 99.9%
    (Clopper and Pearson). In the group `accuracy`, `value` is the estimated accuracy of the batch, `reference` that of
    the reference images, and `effect` the difference; of findings, the mean of theirs. Undefined values are NaN.

    Args:
        images: the batch's scored images: ACQUISITION, novelty, predicted_label and probability_<class> per class, or
            called_<finding> and probability_<finding> per finding.
        reference: the model's out-of-fold images, with the same columns.
        outputs: in output order.
    """
    evaluated = outputs if isinstance(outputs, Findings) else outputs.evaluated
    scores = evaluated.probability_columns
    tested = [*(("acquisition", c) for c in ACQUISITION), ("features", "novelty"), *(("scores", c) for c in scores)]
    rows = [_two_samples(group, column, images, reference) for group, column in tested]
    corrected = holm(np.array([row["p_value"] for row in rows]))
    rows = [row | {"p_value": float(p)} for row, p in zip(rows, corrected, strict=True)]
    rows += [_novel_images(images["novelty"], reference["novelty"]), _accuracy(images, reference, outputs)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _two_samples(group: str, column: str, images: pd.DataFrame, reference: pd.DataFrame) -> dict[str, object]:
    from scipy import stats

    batch, known = (table[column].dropna().to_numpy(float) for table in (images, reference))
    effect = float("nan")
    p_value = 1.0
    if len(batch) and len(known):
        test: Any = stats.ks_2samp(batch, known, method="exact" if min(len(batch), len(known)) < EXACT else "asymp")
        effect = float(test.statistic)
        p_value = float(test.pvalue)
    return {
        "group": group,
        "statistic": column,
        "n": len(batch),
        "n_reference": len(known),
        "value": _median(batch),
        "reference": _median(known),
        "effect": effect,
        "p_value": p_value,
    }


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values corrected for their number, shape (n,): a threshold on them bounds the chance of any false alarm.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scand J Stat 1979.
    """
    order = np.argsort(p_values)
    stepped = p_values[order] * (len(p_values) - np.arange(len(p_values)))
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return corrected


def is_novel(novelty: float, reference: pd.DataFrame) -> bool:
    """Return whether an image is more novel than 99% of the reference: it may be no chest radiograph at all.

    Args:
        novelty: of the image.
        reference: the model's out-of-fold images.
    """
    return bool(novelty > reference["novelty"].quantile(NOVEL_QUANTILE))


def outlying(image: Mapping[str, Any], reference: pd.DataFrame) -> list[str]:
    """Return the acquisition statistics in which an image lies outside the range of the reference images.

    Args:
        image: ACQUISITION of the image.
        reference: the model's out-of-fold images.
    """
    known = reference[ACQUISITION].astype(float)
    values = pd.Series({name: float(image[name]) for name in ACQUISITION})
    outside = (values < known.min()) | (values > known.max())
    return outside.index[outside].tolist()


def _novel_images(batch: pd.Series, known: pd.Series) -> dict[str, object]:
    from scipy import stats

    values = batch.dropna()
    limit = known.quantile(NOVEL_QUANTILE)
    n = len(values)
    n_novel = int((values > limit).sum())
    is_defined = n > 0 and not np.isnan(limit)
    at_least = stats.binomtest(n_novel, n).proportion_ci(2 * CONFIDENCE - 1).low if n else 0.0
    return {
        "group": "novel_images",
        "statistic": "share",
        "n": n,
        "n_reference": int(known.notna().sum()),
        "value": n_novel / n if is_defined else float("nan"),
        "reference": 1 - NOVEL_QUANTILE,
        "effect": float(at_least),
        "p_value": float("nan"),
    }


def _accuracy(images: pd.DataFrame, reference: pd.DataFrame, outputs: Classes | Findings) -> dict[str, object]:
    batch, known = (_expected_accuracy(table, outputs) for table in (images, reference))
    return {
        "group": "accuracy",
        "statistic": "estimated",
        "n": len(images),
        "n_reference": len(reference),
        "value": batch,
        "reference": known,
        "effect": batch - known,
        "p_value": float("nan"),
    }


def _expected_accuracy(images: pd.DataFrame, outputs: Classes | Findings) -> float:
    """Return the mean probability of what is predicted, of classes or of findings; NaN without images."""
    if images.empty:
        return float("nan")
    probability = images[outputs.probability_columns].to_numpy(float)
    if isinstance(outputs, Findings):
        called = images[outputs.called_columns].to_numpy(bool)
        return float(np.where(called, probability, 1 - probability).mean())
    column = {name: k for k, name in enumerate(outputs)}
    predicted = images["predicted_label"].map(column).to_numpy(int)
    return float(probability[np.arange(len(images)), predicted].mean())
