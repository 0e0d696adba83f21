"""The suite of a batch's new scores. Grain: one row per file that this version of the model had not scored before."""

from typing import TYPE_CHECKING, get_args

import pandas as pd

from cxr.classes import Classes, Findings
from cxr.errors import Reason
from cxr.images.other_files import OTHER_FILE
from cxr.wording import percent
from data_checks.expect import absent, between, one_of, present, unique
from data_checks.suite import Table
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

TABLE = Table("scores", "one row per file that this version of the model had not scored before", ("path",))


def describe(rows: pd.DataFrame, outputs: Classes | Findings) -> pd.DataFrame:
    """Return the rows with the columns that the expectations ask about."""
    probability = rows[outputs.probability_columns].astype(float)
    is_image = rows["status"] == "ok"
    is_other = rows["reason"] == OTHER_FILE
    readable = is_image | rows["reason"].isin(["blank", "colour_photograph"])
    return rows.assign(
        # with the status: a file that lacked a decoder, and is scored now, has a row of each
        key=rows["path"] + "\n" + rows["image_id"].fillna("") + rows["changed_ns"].astype("str") + rows["status"],
        scored=probability.notna().all(axis=1).where(is_image).astype("object"),
        unscored=probability.isna().all(axis=1).where(~is_image).astype("object"),
        least_probability=probability.min(axis=1).where(is_image),
        greatest_probability=probability.max(axis=1).where(is_image),
        sum_error=(probability.sum(axis=1) - 1).abs().where(is_image),
        reason_if_refused=rows["reason"].fillna("none").where(~is_image),
        reason_if_image=rows["reason"].where(is_image),
        is_photograph=(rows["reason"] == "colour_photograph").where(readable).astype("object"),
        is_refused=(~is_image).where(~is_other).astype("object"),
        is_other=is_other,
        is_unlike=rows["unlike_training"].astype("object").where(rows["unlike_training"].notna()),
        seen_in_training=rows["in_training"].astype("object").where(is_image),
    )


def expectations(outputs: Classes | Findings, version: str, limit: Tolerances) -> list["Expectation"]:
    """Return the suite."""
    photographs = f"At most {percent(limit.photograph_share)} of the readable images are colour photographs."
    refused = (
        f"At most {percent(limit.quarantined_share)} of the files other than texts, archives and the like are "
        "quarantined."
    )
    others = f"At most {percent(limit.other_file_share)} of the files are texts, archives and the like."
    unlike = f"At most {percent(limit.unlike_share)} of the images are unlike the training images."
    return [
        unique("key", "critical", "Every file has exactly one row."),
        one_of("status", "critical", "Every file is scored or quarantined.", ["ok", "quarantined"]),
        one_of("scored", "critical", "Every scored image has a probability for each class.", [True]),
        one_of("unscored", "critical", "No quarantined file has a probability.", [True]),
        one_of("reason_if_refused", "critical", "Every quarantined file has a known reason.", get_args(Reason)),
        absent("reason_if_image", "critical", "No scored image has a reason."),
        between("least_probability", "critical", "No probability is below 0.", least=0),
        *_decided(outputs, limit),
        one_of("model_version", "critical", "Every row comes from the model version of this scoring run.", [version]),
        present("scored_at", "critical", "Every row has the time when it was scored."),
        one_of("is_photograph", "critical", photographs, [False], mostly=1 - limit.photograph_share),
        one_of("is_refused", "warning", refused, [False], mostly=1 - limit.quarantined_share),
        one_of("is_other", "warning", others, [False], mostly=1 - limit.other_file_share),
        one_of("is_unlike", "warning", unlike, [False], mostly=1 - limit.unlike_share),
        one_of("seen_in_training", "info", "No image was used to train the model.", [False]),
    ]


def _decided(outputs: Classes | Findings, limit: Tolerances) -> list["Expectation"]:
    """Return what is expected of probabilities and predictions: classes share an image's probability."""
    if isinstance(outputs, Findings):
        return [between("greatest_probability", "critical", "No probability is above 1.", most=1)]
    return [
        between("sum_error", "critical", "The probabilities of an image sum to 1.", most=limit.probability_sum_error),
        one_of("predicted_label", "critical", "Every predicted label is one of the model's classes.", outputs),
    ]
