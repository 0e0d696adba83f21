import dataclasses
from pathlib import Path

import pytest

from cxr.errors import RunError
from cxr.retraining.plan import plan_retraining
from cxr.serving.registry import promote
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, load_run
from tests.support.retraining import Site, copy_site


def run_in(site: Site) -> Run:
    """The run that the site's newest version was made from."""
    (folder,) = (site.path / "experiments").glob("retrain-*")
    return load_run(RunFolder(folder))


def test_neither_model_is_trained_on_a_patient_who_is_set_aside(retrained: Site) -> None:
    run = run_in(retrained)
    images = verified.read_table(run.folder.retraining.images)
    aside = images[images["is_set_aside"]]
    folds = verified.read_table(run.folder.folds)
    made_from = files.read_table(retrained.model.version("1").images)
    assert len(aside) > 20
    assert set(aside["origin"]) == {"feedback"}
    for trained in (folds, made_from, files.read_table(retrained.model.version("2").images)):
        assert not set(aside["image_id"]) & set(trained["image_id"])
    known = images.drop_duplicates("image_id").set_index("image_id")["patient_id"]
    assert not set(aside["patient_id"]) & set(known.reindex(folds["image_id"]).dropna())


def test_the_champions_recipe_is_trained_on_its_images_and_on_the_new_ones(retrained: Site, head: Run) -> None:
    run = run_in(retrained)
    images = verified.read_table(run.folder.retraining.images)
    folds = verified.read_table(run.folder.folds)
    of_data = set(verified.read_table(head.folder.folds)["image_id"])
    added = set(images.loc[(images["origin"] == "feedback") & ~images["is_set_aside"], "image_id"])
    assert set(folds["image_id"]) == of_data | added
    assert len(added) > 20
    label = images.drop_duplicates("image_id").set_index("image_id")["label"]
    assert (folds.set_index("image_id")["label"] == label.reindex(folds["image_id"])).all()
    changed = {"data", "labels", "path_column", "label_column", "patient_column", "split_column", "holdout", "positive"}
    before, after = (dataclasses.asdict(config) for config in (head.config, run.config))
    assert {name for name in before if before[name] != after[name]} == changed


@pytest.fixture
def copy(retrained: Site, tmp_path: Path) -> Site:
    return copy_site(retrained, tmp_path)


@pytest.mark.parametrize("version", ["1", "2"])
def test_the_same_labels_lead_to_the_same_run_also_once_its_model_is_champion(copy: Site, version: str) -> None:
    promote(copy.model, version, force=True)
    plan = plan_retraining(copy.config, copy.location)
    assert plan.folder.run_id == run_in(copy).folder.run_id
    assert plan.champion.version == version


def test_a_run_that_was_begun_with_other_images_set_aside_is_refused(copy: Site) -> None:
    promote(copy.model, "1", force=True)
    other = dataclasses.replace(copy.config, share=0.9)
    location = dataclasses.replace(copy.location, run_id=run_in(copy).folder.run_id)
    with pytest.raises(RunError, match="was begun with other labels or images"):
        plan_retraining(other, location)
