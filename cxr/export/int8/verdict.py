"""Whether 8-bit integers are good enough for a package: no worse than float32 by more than is allowed."""

import json
import logging
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from cxr.config import OperatingPoint
from cxr.errors import PackageError
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.on_request.noninferiority import MOST_PROBABLE, judge
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.storage import verified
from cxr.training.run import Run
from cxr.wording import display_name

log = logging.getLogger(__name__)


def require_noninferior(
    run: Run,
    exact: OutOfFold | FindingsOutOfFold,
    integers: OutOfFold | FindingsOutOfFold,
    operating_point: OperatingPoint,
) -> dict[str, Any]:
    """Return judged (the table's rows), n_images, and share_changed.

    That is the share of images that are called otherwise at the package's operating point, the largest over findings or
    classes. The rows are also the table `int8` of the run.

    Args:
        run: the finished run.
        exact: out-of-fold predictions of the networks in float32.
        integers: of those in 8-bit integers, on the same images.
        operating_point: of the package.

    Raises:
        PackageError: a metric may be lower by more than its margin.
    """
    judged = judge(exact, integers)
    verified.write_table(run.folder.table("int8"), judged)
    used = judged[judged["operating_point"].isin([operating_point, MOST_PROBABLE])]
    changed = float(used["share_changed"].max())
    n_images = len(exact.predictions)
    log.info("8-bit integers call %.2f%% of %s images otherwise", 100 * changed, f"{n_images:,}")
    if not judged["holds"].all():
        raise PackageError(
            f"--int8 is refused: on {n_images:,} held-out images 8-bit integers may lower, at 95% confidence, "
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
