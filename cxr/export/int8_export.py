"""A package's layers in 8-bit integers: networks of their own, judged against those in float32 that they come from.

Every image is predicted in integers by the fold that never saw it, so that temperature, bias and thresholds are fitted
to the integers' own logits, and their metrics are measured as those in float32 are.
"""

import json
import logging
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr.config import OperatingPoint
from cxr.errors import ConfigError, PackageError
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.noninferiority import MOST_PROBABLE, judge
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.tables import metrics_table, summary_of
from cxr.export.description import metrics_of
from cxr.export.evaluated import Evaluated, out_of_fold_of
from cxr.export.rounding import evenly_spread
from cxr.metrics.link import probabilities
from cxr.network.int8 import int8_hindrance, quantise
from cxr.network.onnx_graph import require_onnx
from cxr.network.resnet import BATCH_SIZE
from cxr.serving.ensemble import Ensemble, layers_of, parts_of
from cxr.serving.networks import PackagedNetworks, Part
from cxr.storage import verified
from cxr.training.run import Run
from cxr.wording import display_name

log = logging.getLogger(__name__)

N_CALIBRATION = 256
"""Training images that the ranges of 8-bit integers are taken from."""


def require_int8() -> None:
    """Raise ConfigError if layers in 8-bit integers cannot be written or run here."""
    require_onnx("--int8")
    if hindrance := int8_hindrance("cpu"):
        raise ConfigError(f"--int8 is not available: {hindrance}.")


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
    _write(networks, run, images)
    integers = Ensemble(networks, device="cpu", arithmetic="int8", n_images=0, compile="off", cache=run.cache)
    predictions = _predict(integers, run, images)
    out_of_fold = out_of_fold_of(predictions, run)
    judged = _judge(run, exact.out_of_fold, out_of_fold, operating_point)
    summary = summary_of(predictions, run.outputs, metrics_table(predictions, run.outputs))
    metrics = metrics_of(exact.summary, run.outputs)
    return Evaluated(
        out_of_fold,
        summary,
        lambda squares: integers.run(squares, [0])[1],
        judged | {"metrics_in_float32": metrics},
    )


def _write(networks: PackagedNetworks, run: Run, predictions: pd.DataFrame) -> None:
    """Write the layers in 8-bit integers, the ranges of each part taken from its training images.

    The convolution that sees the image itself stays in float32: it costs little, and its rounding is felt most.
    """
    first, _ = parts_of(networks)[0]
    for part, fold in parts_of(networks):
        images = evenly_spread(predictions[predictions["fold"] != fold], N_CALIBRATION)
        inputs = _inputs(networks, part, run.squares(images))
        layers = layers_of(networks, part, fold)
        quantise(layers, inputs, networks.int8_graph(part, fold), first_in_float=part == first)


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


def _judge(
    run: Run,
    exact: OutOfFold | FindingsOutOfFold,
    integers: OutOfFold | FindingsOutOfFold,
    operating_point: OperatingPoint,
) -> dict[str, Any]:
    """Return judged (the table's rows), n_images, and share_changed.

    That is the share of images that are called otherwise at the package's operating point, the largest over findings or
    classes. Raises PackageError if a metric may be lower by more than its margin.
    """
    judged = judge(exact, integers)
    verified.write_table(run.folder.table("int8"), judged)
    used = judged[judged["operating_point"].isin([operating_point, MOST_PROBABLE])]
    changed = float(used["share_changed"].max())
    n_images = len(exact.predictions)
    log.info("8-bit integers call %.2f %% of %s images otherwise", 100 * changed, f"{n_images:,}")
    if not judged["holds"].all():
        raise PackageError(
            f"--int8 is refused: on {n_images:,} held-out images 8-bit integers may lower, at 95 % confidence, "
            f"{_failures(judged)} (all figures: {str(run.folder.table('int8'))!r}): package the run without --int8."
        )
    return {"n_images": n_images, "share_changed": changed, "judged": json.loads(judged.to_json(orient="records"))}


def _failures(judged: pd.DataFrame) -> str:
    """Return what the integers may lower by more than its margin, for a sentence."""
    return ", ".join(map(_failure, judged[~judged["holds"]].to_dict("records")))


def _failure(row: dict[Hashable, Any]) -> str:
    where = "" if pd.isna(row["operating_point"]) else f" at {row['operating_point']}"
    found = f"{display_name(str(row['metric']))} of {row['class']}{where} by"
    if np.isnan(row["lower_bound"]):
        return f"{found} an unknown amount ({_percent(row['margin'])} allowed)"
    return f"{found} up to {_percent(-row['lower_bound'])} ({_percent(row['margin'])} allowed)"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} points"


@torch.inference_mode()
def _inputs(networks: PackagedNetworks, part: Part, squares: NDArray[np.uint8]) -> Tensor:
    """Return a part's inputs for the images themselves, shape (n, …): their other views have the same range."""
    preprocessing = networks.preprocessing()
    parts = torch.from_numpy(squares).split(BATCH_SIZE)
    batches = [preprocessing.normalise(preprocessing.grey(part)) for part in parts]
    if part == "own" and networks.trainable == "layer4":
        shared = layers_of(networks, "shared", 0)
        batches = [shared(inputs) for inputs in batches]
    return torch.cat(batches)
