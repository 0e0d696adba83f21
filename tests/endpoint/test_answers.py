import json
from datetime import UTC, datetime

import pytest

from cxr.endpoint import answers
from cxr.serving.package import Package
from cxr.serving.scoring.scores import column_types


def test_a_document_is_ascii_and_reads_as_what_it_was_made_from() -> None:
    content = {"path": "Röntgen\u2028\x1b[2J</script>.jpeg", "n": 1.5, "none": None}
    sent = answers.Answer(content).body
    assert bytes(sent).isascii()
    assert b"\x1b" not in sent
    assert json.loads(bytes(sent)) == content


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_has_not_is_never_sent(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        answers.Answer({"probability": value})


def test_each_image_has_every_column_of_the_scores_and_null_for_what_is_missing(package: Package) -> None:
    row = {
        "path": "a.png",
        "probability_PNEUMONIA": 0.75,
        "fold_spread": float("nan"),
        "scored_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "unknown": "is left out",
    }
    document = answers.predictions(package, [row, {}])
    (first, second) = document["images"]
    assert list(first) == list(second) == list(column_types(package.outputs))
    assert (first["path"], first["probability_PNEUMONIA"], first["fold_spread"]) == ("a.png", 0.75, None)
    assert first["scored_at"] == "2026-01-02T03:04:05+00:00"
    assert set(second.values()) == {None}
    assert "not a medical device" in document["note"]
    assert (document["model"], document["model_version"]) == ("tiny", "1")


def test_a_model_is_described_by_what_its_package_holds(package: Package) -> None:
    facts = json.loads(package.folder.description.read_text())
    (described,) = answers.models(package)["models"]
    assert described["outputs"] == facts["classes"]
    assert described["size"] == facts["size"]
    cells = -(-facts["size"] // 16)
    assert described["map"] == f"HiResCAM (layer3, {cells} × {cells} cells)"
    assert described["thresholds"] == facts["thresholds"]
    assert described["thresholds_from"] == "out of fold"
    assert described["has_findings"] is False
