"""Is this batch like the images that the model was judged on?

Three looks, none of which needs a label. *Acquisition*: size and grey levels. *Features*: how far an image lies
from the training images, in what the network makes of it and in where it is bright and dark: its novelty.
*Scores*: the calibrated probability. Each is compared with the model's out-of-fold images by a two-sample
Kolmogorov-Smirnov test; the p-values are corrected for their number (Holm), and as large batches make any
difference significant, the size of the difference (the KS distance, 0 to 1) counts as well. A batch of which
many images are novel holds something else than chest images; that is asked image by image, so it works for small
batches too.

How many of the batch's calls are right is estimated from the calibrated probabilities alone.

Source: Rabanser et al., Failing loudly, NeurIPS 2019 (tests on univariate statistics with correction);
Mahalanobis distance with a residual for novelty: Lee et al., NeurIPS 2018; Ndiour et al. 2020; estimated
accuracy: Guillory et al., ICCV 2021 (average confidence).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ACQUISITION = ["width", "height", "mean", "contrast", "border", "dark_share", "bright_share"]
COLUMNS = ["group", "statistic", "n", "n_reference", "value", "reference", "effect", "p_value"]
NOVEL_QUANTILE = 0.99
"""An image is novel if it lies farther out than this share of the reference images."""
CONFIDENCE = 0.999
EXACT = 100
"""In samples smaller than this the test's p-value is computed exactly."""


def compare(images: pd.DataFrame, reference: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return one row per statistic: group, statistic, n, n_reference, value, reference, effect, p_value.

    In group `acquisition`, `features` and `scores`, `value` and `reference` are medians, `effect` is the KS
    distance, and `p_value` is corrected. In group `novel_images`, `value` is the share of novel images in the
    batch, `reference` the share to be expected, and `effect` the share that the batch exceeds with a
    confidence of 99.9 % (Clopper and Pearson). In group `accuracy`, `value` is the accuracy estimated for the
    batch, `reference` that estimated for the reference images, `effect` the difference. Undefined is NaN.

    Args:
        images: the batch's images that were scored: ACQUISITION, novelty, probability_<class> per class.
        reference: the model's out-of-fold images, with the same columns.
    """
    scores = [f"probability_{name}" for name in (classes[1:] if len(classes) == 2 else classes)]
    tested = [*(("acquisition", c) for c in ACQUISITION), ("features", "novelty"), *(("scores", c) for c in scores)]
    rows = [_two_samples(group, column, images, reference) for group, column in tested]
    corrected = holm(np.array([row["p_value"] for row in rows]))
    rows = [row | {"p_value": float(p)} for row, p in zip(rows, corrected, strict=True)]
    rows += [_novel_images(images["novelty"], reference["novelty"]), _accuracy(images, reference, classes)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _two_samples(group: str, column: str, images: pd.DataFrame, reference: pd.DataFrame) -> dict[str, object]:
    from scipy import stats

    batch, known = images[column].dropna().to_numpy(float), reference[column].dropna().to_numpy(float)
    effect, p_value = float("nan"), 1.0
    if len(batch) and len(known):
        test: Any = stats.ks_2samp(batch, known, method="exact" if min(len(batch), len(known)) < EXACT else "asymp")
        effect, p_value = float(test.statistic), float(test.pvalue)
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
    """Return p-values corrected for their number: a threshold on them bounds the chance of any false alarm.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scand J Stat 1979.
    """
    order = np.argsort(p_values)
    stepped = p_values[order] * (len(p_values) - np.arange(len(p_values)))
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return corrected


def is_novel(novelty: float, reference: pd.DataFrame) -> bool:
    """Tell whether an image lies farther out than 99 % of the images that the model was judged on: it may be no such image.

    Args:
        novelty: of the image.
        reference: the model's out-of-fold images.
    """
    return bool(novelty > reference["novelty"].quantile(NOVEL_QUANTILE))


def outlying(image: Mapping[str, Any], reference: pd.DataFrame) -> list[str]:
    """Return the statistics of acquisition in which an image lies outside all the images that the model was judged on."""
    known = reference[ACQUISITION].astype(float)
    values = pd.Series({name: float(image[name]) for name in ACQUISITION})
    outside = (values < known.min()) | (values > known.max())
    return outside.index[outside].tolist()


def _novel_images(batch: pd.Series, known: pd.Series) -> dict[str, object]:
    from scipy import stats

    values, limit = batch.dropna(), known.quantile(NOVEL_QUANTILE)
    n, n_novel = len(values), int((values > limit).sum())
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


def _accuracy(images: pd.DataFrame, reference: pd.DataFrame, classes: Sequence[str]) -> dict[str, object]:
    batch, known = (_expected_accuracy(table, classes) for table in (images, reference))
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


def _expected_accuracy(images: pd.DataFrame, classes: Sequence[str]) -> float:
    """Return the mean probability of the class that each image is called."""
    if images.empty:
        return float("nan")
    probability = images[[f"probability_{name}" for name in classes]].to_numpy(float)
    predicted = images["predicted_label"].map({name: k for k, name in enumerate(classes)}).to_numpy(int)
    return float(probability[np.arange(len(images)), predicted].mean())
