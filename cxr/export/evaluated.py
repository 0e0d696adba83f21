"""How a package's networks predict held-out images, in the arithmetic that the package scores in."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from cxr.classes import Findings
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.export.reference import Features, features_of
from cxr.serving.networks import PackagedNetworks
from cxr.storage import verified
from cxr.training.run import Run


@dataclass(frozen=True)
class Evaluated:
    """What calibration, thresholds, metrics and the measure of novelty of a package are made from."""

    out_of_fold: OutOfFold | FindingsOutOfFold
    summary: pd.DataFrame
    """Of these predictions, as `cxr.evaluation.tables.summary_of` returns it."""
    features: Features
    """Of fold 0's network."""
    judged: dict[str, Any] = field(default_factory=dict)
    """`int8` of package.json, if the networks compute in 8-bit integers."""


def in_float32(networks: PackagedNetworks, run: Run) -> Evaluated:
    """Return how the networks of a finished run predict."""
    predictions = verified.read_table(run.folder.predictions)
    summary = verified.read_table(run.folder.summary)
    return Evaluated(out_of_fold_of(predictions, run), summary, features_of(networks.model(0), run))


def out_of_fold_of(predictions: pd.DataFrame, run: Run) -> OutOfFold | FindingsOutOfFold:
    """Return a run's out-of-fold table, or one with its columns, as arrays."""
    outputs = run.outputs
    return FindingsOutOfFold(predictions, outputs) if isinstance(outputs, Findings) else OutOfFold(predictions, outputs)
