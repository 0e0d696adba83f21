import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from cxr.export.build import make_package
from cxr.export.model_card import model_card
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.training.run import Run
from cxr.wording import display_name


def read_card(text: str) -> tuple[dict[str, Any], list[str]]:
    """Return a card's metadata and the cells of its tables."""
    nothing, front, body = text.split("---\n", 2)
    assert nothing == ""
    tokens = MarkdownIt().enable("table").parse(body)
    return yaml.safe_load(front), [
        token.content for before, token in itertools.pairwise(tokens) if before.type == "td_open"
    ]


@pytest.mark.parametrize("name", ["tiny", "null", "1.0"])
def test_the_card_is_yaml_and_markdown_with_the_metrics_of_the_run(head: Run, models: Path, name: str) -> None:
    facts = files.read_json(make_package(head, ModelFolder.named(models, "head")).description)
    meta, cells = read_card(model_card(facts | {"name": name}))
    assert (meta["license"], meta["pipeline_tag"]) == ("apache-2.0", "image-classification")
    (model,) = meta["model-index"]
    assert model["name"] == f"{name} 1"
    metrics = files.read_table(head.folder.metrics)
    rows = metrics[(metrics["scope"] == "pooled") & ~metrics["metric"].str.contains("true_|false_")]
    (result,) = model["results"]
    assert result["dataset"]["name"] == head.folder.run_id
    values = {entry["type"]: entry["value"] for entry in result["metrics"]}
    assert values == pytest.approx({row.metric: 100 * row.value for row in rows.itertuples()}, abs=0.00501)
    for row in rows.itertuples():
        assert cells[cells.index(display_name(row.metric)) + 2] == (
            f"{100 * row.value:.1f} [{100 * row.ci_low:.1f}, {100 * row.ci_high:.1f}]"
        )
    for point, threshold in facts["thresholds"].items():
        assert cells[cells.index(display_name(point)) + 1] == f"{threshold:.4f}"


def test_the_card_of_a_run_that_left_out_clusters_says_that_its_figures_are_pessimistic(
    head: Run, models: Path
) -> None:
    facts = files.read_json(make_package(head, ModelFolder.named(models, "head")).description)
    assert "pessimistic" not in model_card(facts)
    card = " ".join(model_card(facts | {"config": facts["config"] | {"leave_out": "cluster"}}).split())
    assert "these figures are pessimistic for images like the training images" in card
    assert "calibration and thresholds, fitted on the same predictions, are those of unlike images" in card


def test_the_card_has_the_hash_of_the_lock_or_without_one_of_what_is_installed(head: Run, models: Path) -> None:
    facts = files.read_json(make_package(head, ModelFolder.named(models, "head")).description)
    lock = facts["code"]["requirements_lock_sha256"]
    _, cells = read_card(model_card(facts))
    assert cells[cells.index("lock, SHA-256") + 1] == f"`{lock}`"
    without = facts["code"] | {"requirements_lock_sha256": None}
    _, cells = read_card(model_card(facts | {"code": without | {"distributions_sha256": "f" * 64}}))
    assert cells[cells.index("installed distributions, SHA-256") + 1] == f"`{'f' * 64}`"
    assert "lock, SHA-256" not in cells
    assert "lock, SHA-256" not in model_card(facts | {"code": without}), "as of a package of an older version"


def test_a_metric_that_is_undefined_is_a_dash_in_the_card(head: Run, models: Path) -> None:
    facts = files.read_json(make_package(head, ModelFolder.named(models, "head")).description)
    undefined = dict.fromkeys(("mean", "sd", "pooled", "ci_low", "ci_high")) | {"metric": "roc_auc"}
    meta, cells = read_card(model_card(facts | {"metrics": [undefined]}))
    assert meta["model-index"][0]["results"][0]["metrics"][0]["value"] is None
    assert cells[:3] == ["ROC-AUC", "–", "–"]


def test_for_more_than_two_classes_the_card_has_macro_averages_and_no_thresholds(three: Run, models: Path) -> None:
    card = make_package(three, ModelFolder.named(models, "three")).card.read_text()
    meta, cells = read_card(card)
    assert "macro roc_auc" in {entry["type"] for entry in meta["model-index"][0]["results"][0]["metrics"]}
    assert "Youden" not in cells
    assert "classifies chest X-rays as NORMAL or bacteria or virus" in card
