"""The rule by which a retrained version becomes champion, and what is recorded of it."""

from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from cxr.retraining.outcome import conclude
from cxr.retraining.plan import Plan, plan_retraining
from cxr.serving import registry
from cxr.serving.package import load_package
from cxr.storage import verified
from tests.support.packages import light_package
from tests.support.retraining import Site, copy_site


@pytest.fixture
def copy(retrained: Site, tmp_path: Path) -> Site:
    return copy_site(retrained, tmp_path)


def again(site: Site) -> tuple[Plan, dict]:
    plan = plan_retraining(site.config, site.location)
    return plan, conclude(plan, site.config)


def test_the_package_says_from_what_it_was_retrained_and_how_it_compares(retrained: Site) -> None:
    package = load_package(retrained.model.version("2"))
    record = package.facts["retrained"]
    assert (record["from"], record["margin"], record["share"]) == ("1", 0.01, 0.5)
    (file,) = (retrained.path / "experiments").glob("retrain-*/retraining/set_aside.parquet")
    table = verified.read_table(file)
    truth = table["label"] == "PNEUMONIA"
    for when, who in (("before", "champion"), ("after", "challenger")):
        expected = roc_auc_score(truth, table[f"{who}_PNEUMONIA"])
        assert record["compared"][when] == pytest.approx(expected)
    assert record["compared"]["n_images"] == len(table)
    assert record["is_no_worse"] == (record["compared"]["ci_low"] >= -0.01)
    assert f"[{record['compared']['ci_low']:+.4f}, " in record["sentence"]
    assert "Retrained from version 1 with images that were labelled since" in package.folder.card.read_text()


@pytest.mark.parametrize(("is_no_worse", "champion"), [(True, "2"), (False, "1")])
def test_the_rule_decides_and_a_process_that_died_before_the_promotion_is_made_good(
    copy: Site, is_no_worse: bool, champion: str
) -> None:
    registry.promote(copy.model, "1", force=True)
    record = load_package(copy.model.version("2")).facts["retrained"] | {"is_no_worse": is_no_worse}
    original = copy.path / "original"
    copy.model.version("2").path.rename(original)
    light_package(type(copy.model.version("2"))(original), copy.path / "models", "2", retrained=record)
    plan, outcome = again(copy)
    assert verified.read_json(plan.folder.retraining.outcome) == outcome
    assert copy.model.versions() == ["1", "2"], "it is not packaged twice"
    assert (outcome["champion"], outcome["promoted"]) == (champion, is_no_worse)
    assert registry.champion_version(copy.model) == champion
    if is_no_worse:
        assert record["sentence"] in registry.promotions(copy.model)[-1]["why"]
        assert "is the champion" in outcome["sentence"]
    else:
        assert "stays a challenger" in outcome["sentence"]


def test_a_champion_that_changed_in_the_meantime_is_not_replaced(copy: Site) -> None:
    registry.promote(copy.model, "1", force=True)
    plan = plan_retraining(copy.config, copy.location)
    record = load_package(copy.model.version("2")).facts["retrained"] | {"is_no_worse": True, "from": "9"}
    original = copy.path / "original"
    copy.model.version("2").path.rename(original)
    light_package(type(copy.model.version("2"))(original), copy.path / "models", "2", retrained=record)
    outcome = conclude(plan, copy.config)
    assert not outcome["promoted"]
    assert "version 1 of tiny has become champion in place of 9" in outcome["sentence"]
