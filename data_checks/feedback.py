"""The suite of the labels that came after the scores. Grain: one row per image and entry, the history included."""

from typing import TYPE_CHECKING

import pandas as pd

from cxr.classes import Classes
from cxr.wording import percent
from data_checks.expect import all_of, between, matching, one_of, present, unique
from data_checks.suite import Table
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

TABLE = Table("feedback", "one row per image and entry, the history included", ("image_id", "entry"))


def describe(ledger: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """Return the ledger with the columns that the expectations ask about.

    Args:
        ledger: as `cxr.feedback.ledger.read_ledger` returns it.
        scored: the published scores of the model: image_id, scored_at.
    """
    is_last = ~ledger.duplicated("image_id", keep="last")
    by_image = ledger.groupby("image_id")
    before = by_image["given_at"].shift()
    first_score = ledger["image_id"].map(scored.groupby("image_id")["scored_at"].min())
    is_corrected = ledger["label"] != by_image["label"].transform("first")
    return ledger.assign(
        key=ledger["image_id"] + " " + ledger["entry"].astype("str"),
        current_label=ledger["label"].where(is_last),
        is_corrected=is_corrected.where(is_last).astype("object"),
        has_patient=ledger["patient_id"].notna().where(is_last).astype("object"),
        is_scored=first_score.notna(),
        is_in_order=(before <= ledger["given_at"]).where(before.notna()).astype("object"),
        is_after_score=(first_score <= ledger["given_at"]).where(first_score.notna()).astype("object"),
    )


def expectations(classes: Classes, limit: Tolerances) -> list["Expectation"]:
    """Return the suite.

    Args:
        classes: of the model.
        limit: what is still acceptable.
    """
    corrected = f"At most {percent(limit.corrected_share)} of the labels are corrections."
    return [
        unique("key", "critical", "Every entry says one thing of an image."),
        matching("image_id", "critical", "Every image is named by the hash of its content.", r"^[0-9a-f]{64}$"),
        one_of("label", "critical", "Every label is one of the model's classes.", classes),
        present("given_by", "critical", "Every label says who gave it."),
        present("given_at", "critical", "Every label says when it was given."),
        matching("source_sha256", "critical", "Every label has the hash of its table.", r"^[0-9a-f]{64}$"),
        between("entry", "critical", "Entries are numbered from 1.", least=1),
        all_of("current_label", "warning", "Every class of the model has a label.", classes),
        one_of("is_scored", "warning", "Every labelled image has a published score.", [True]),
        one_of("is_corrected", "warning", corrected, [False], mostly=1 - limit.corrected_share),
        one_of("is_in_order", "warning", "A correction is later than what it corrects.", [True]),
        one_of("is_after_score", "warning", "Labels come after the scores that they judge.", [True]),
        one_of("has_patient", "info", "Every labelled image has a patient.", [True]),
    ]
