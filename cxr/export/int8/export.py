"""A package's layers in 8-bit integers: networks of their own, judged against those in float32 that they come from.

Every image is predicted in integers by the fold that never saw it, so that temperature, bias and thresholds are fitted
to the integers' own logits, and their metrics are measured as those in float32 are.
"""

import logging

import numpy as np
import pandas as pd

from cxr.config import OperatingPoint
from cxr.evaluation.findings import out_of_fold_of
from cxr.evaluation.tables import metrics_table, summary_of
from cxr.export.description import metrics_of
from cxr.export.evaluated import Evaluated
from cxr.export.int8.layers import write_int8_layers
from cxr.export.int8.verdict import require_noninferior
from cxr.metrics.link import probabilities
from cxr.serving.ensemble import Ensemble
from cxr.serving.networks import PackagedNetworks
from cxr.training.run import Run

log = logging.getLogger(__name__)


def in_integers(exact: Evaluated, networks: PackagedNetworks, run: Run, operating_point: OperatingPoint) -> Evaluated:
    """Write the layers in 8-bit integers, and return how they predict; write the table `int8` of the run.

    Args:
        exact: how the networks predict in float32.
        networks: of the package that is being built.
        run: the finished run.
        operating_point: of the package.

    Raises:
        PackageError: they may be worse than float32 by more than is allowed.
    """
    images = exact.out_of_fold.predictions
    write_int8_layers(networks, run, images)
    integers = Ensemble(networks, device="cpu", arithmetic="int8", n_images=0, compile="off", cache=run.cache)
    predictions = _predict(integers, run, images)
    out_of_fold = out_of_fold_of(predictions, run.outputs)
    judged = require_noninferior(run, exact.out_of_fold, out_of_fold, operating_point)
    summary = summary_of(predictions, run.outputs, metrics_table(predictions, run.outputs))
    metrics = metrics_of(exact.summary, run.outputs)
    return Evaluated(
        out_of_fold,
        summary,
        lambda squares: integers.run(squares, [0])[1],
        judged | {"metrics_in_float32": metrics},
    )


def _predict(integers: Ensemble, run: Run, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return out-of-fold predictions with the logits and probabilities that the integers give."""
    logits = np.empty((len(predictions), len(run.outputs)))
    for fold in range(run.config.folds):
        held_out = (predictions["fold"] == fold).to_numpy()
        logits[held_out] = integers.run(run.squares(predictions[held_out]), [fold])[0][0]
        log.info("8-bit integers: fold %d, %d held-out images predicted", fold, held_out.sum())
    probability = probabilities(logits, run.outputs.link)
    columns = dict(zip(run.outputs.logit_columns, logits.T, strict=True))
    return predictions.assign(**columns, **dict(zip(run.outputs.probability_columns, probability.T, strict=True)))
