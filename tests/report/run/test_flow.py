import pandas as pd

from cxr.classes import Classes
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.report.run.flow import image_flow

MANIFEST = pd.DataFrame(
    {
        "path": list("abcdefgh"),
        "image_id": list("AABCDEFG"),
        "status": ["used", "used", "used", "used", "used", "duplicate", "unreadable", "duplicate"],
        "split": ["train", "train", "train", "test", None, "test", "train", "train"],
    }
)


def _flow(predicted: str, holdout: str | None) -> dict[str, int]:
    predictions = pd.DataFrame({"path": list(predicted), "group_id": [f"p{k // 2}" for k in range(len(predicted))]})
    table = image_flow(MANIFEST, holdout, OutOfFold(predictions, Classes(("NORMAL", "PNEUMONIA"))))
    return dict(zip(table["step"], table["n"], strict=True))


def test_every_image_is_counted_where_it_is_left_out_and_copies_in_the_held_out_split_only_once() -> None:
    flow = _flow("abc", "test")
    assert flow == {
        "found": 8,
        "unreadable": 1,
        "duplicate": 2,
        "used": 5,
        "held_out": 1,
        "not_predicted": 1,
        "cross_validated": 3,
        "groups": 2,
    }
    assert flow["used"] == flow["cross_validated"] + flow["held_out"] + flow["not_predicted"]


def test_without_a_held_out_split_an_image_of_no_split_is_not_held_out() -> None:
    flow = _flow("abcde", None)
    assert (flow["held_out"], flow["not_predicted"], flow["cross_validated"]) == (0, 0, 5)


def test_of_identical_files_with_different_labels_the_one_whose_finding_is_unknown_is_not_counted_as_predicted() -> (
    None
):
    flow = _flow("acde", None)
    assert (flow["used"], flow["not_predicted"], flow["cross_validated"]) == (5, 1, 4)
