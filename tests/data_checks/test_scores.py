import pandas as pd
import pytest

from cxr.classes import Classes
from data_checks import scores
from data_checks.tolerances import Tolerances
from tests.data_checks.conftest import Failed

CLASSES = Classes(("well", "sick"))
NAN = float("nan")
IMAGES = pd.DataFrame(
    {
        "path": [f"{k}.jpeg" for k in range(9)],
        "image_id": [f"{k:064x}" for k in range(9)],
        "changed_ns": 1,
        "status": "ok",
        "reason": None,
        "probability_well": 0.25,
        "probability_sick": 0.75,
        "predicted_label": "sick",
        "model_version": "3",
        "scored_at": "2026-01-01T00:00:00Z",
        "in_training": False,
        "unlike_training": False,
    }
)
REFUSED = (
    IMAGES.iloc[:1]
    .assign(path="letter.jpeg", status="quarantined", reason="not_an_image", predicted_label=None, in_training=None)
    .assign(unlike_training=None)
)
REFUSED = REFUSED.assign(probability_well=NAN, probability_sick=NAN)
OTHER = REFUSED.assign(reason="other_file")
MANY = pd.concat([IMAGES.assign(path=IMAGES["path"] + f" {k}") for k in range(3)], ignore_index=True)
WHOLE = pd.concat([IMAGES, REFUSED], ignore_index=True)
PHOTOGRAPHS = pd.concat(
    [IMAGES.iloc[:5], *[REFUSED.assign(path=f"p{k}", reason="colour_photograph") for k in range(2)]], ignore_index=True
)
ONE = WHOLE.index == 0
LAST = WHOLE.index == len(WHOLE) - 1
DAMAGE = {
    "none": (WHOLE, set()),
    "a file in two rows": (pd.concat([WHOLE, WHOLE.iloc[[0]]], ignore_index=True), {("key", "critical")}),
    "a file that lacked a decoder and is scored now": (
        pd.concat([WHOLE, REFUSED.assign(path="0.jpeg", reason="missing_decoder")], ignore_index=True),
        set(),
    ),
    "an unknown status": (WHOLE.assign(status=WHOLE["status"].mask(LAST, "lost")), {("status", "critical")}),
    "scored without a probability": (
        WHOLE.assign(**{f"probability_{name}": WHOLE[f"probability_{name}"].mask(ONE) for name in CLASSES}),
        {("scored", "critical"), ("sum_error", "critical")},
    ),
    "quarantined with a probability": (
        WHOLE.assign(probability_well=0.25, probability_sick=0.75),
        {("unscored", "critical")},
    ),
    "an unknown reason": (
        WHOLE.assign(reason=WHOLE["reason"].mask(LAST, "ugly")),
        {("reason_if_refused", "critical")},
    ),
    "scored with a reason": (WHOLE.assign(reason="blank"), {("reason_if_image", "critical")}),
    "probabilities do not sum to 1": (
        WHOLE.assign(probability_sick=WHOLE["probability_sick"].mask(ONE, 0.5)),
        {("sum_error", "critical")},
    ),
    "an unknown class": (
        WHOLE.assign(predicted_label=WHOLE["predicted_label"].mask(ONE, "odd")),
        {("predicted_label", "critical")},
    ),
    "by another version": (WHOLE.assign(model_version="2"), {("model_version", "critical")}),
    "no time": (WHOLE.assign(scored_at=WHOLE["scored_at"].mask(ONE)), {("scored_at", "critical")}),
    "an album": (PHOTOGRAPHS, {("is_photograph", "critical"), ("is_refused", "warning")}),
    "labels beside the images": (
        pd.concat([IMAGES, *[OTHER.assign(path=f"{k}.csv") for k in range(8)]], ignore_index=True),
        set(),
    ),
    "a third of what should be images": (
        pd.concat([IMAGES, *[REFUSED.assign(path=f"{k}.bin") for k in range(5)]], ignore_index=True),
        {("is_refused", "warning")},
    ),
    "hardly an image among other files": (
        pd.concat([IMAGES.iloc[:1], *[OTHER.assign(path=f"{k}.zip") for k in range(10)]], ignore_index=True),
        {("is_other", "warning")},
    ),
    "an image unlike the training images": (
        WHOLE.assign(unlike_training=WHOLE["unlike_training"].mask(ONE, True)),
        {("is_unlike", "warning")},
    ),
    "one of 27 images unlike the training images": (MANY.assign(unlike_training=MANY.index == 0), set()),
    "by a package without a limit of novelty": (WHOLE.assign(unlike_training=None), set()),
    "seen in training": (
        WHOLE.assign(in_training=WHOLE["in_training"].mask(ONE, True)),
        {("seen_in_training", "info")},
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_scores_are_found_with_their_severity(what: str, failed: Failed) -> None:
    table, expected = DAMAGE[what]
    suite = scores.expectations(CLASSES, "3", Tolerances())
    assert failed(scores.TABLE, scores.describe(table, CLASSES), suite) == expected
