import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cxr.errors import PackageError, RunError
from cxr.export.build import make_package
from cxr.network.resnet import predict_logits
from cxr.serving.package import Package, load_package
from cxr.storage import verified
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run
from tests.support.processes import start_process, wait_for


def copy_of(run: Run, place: Path) -> Run:
    folder = RunFolder(place / run.folder.run_id)
    shutil.copytree(run.folder.path, folder.path, copy_function=os.link)
    return dataclasses.replace(run, folder=folder)


def test_whoever_may_read_the_card_may_read_the_weights(packaged: tuple[Run, Package]) -> None:
    modes = {path.name: oct(path.stat().st_mode) for path in packaged[1].folder.path.iterdir()}
    assert set(modes.values()) == {modes["README.md"]}, modes


def test_packaging_a_run_again_gives_the_same_version(head: Run, models: Path) -> None:
    model = ModelFolder.named(models, "head")
    first = make_package(head, model)
    before = {path: path.stat().st_mtime_ns for path in first.path.iterdir()}
    assert make_package(head, model) == first
    assert {path: path.stat().st_mtime_ns for path in first.path.iterdir()} == before
    other = make_package(head, model, operating_point="specificity_95")
    assert (first.version, other.version, model.versions()) == ("1", "2", ["1", "2"])
    package = load_package(other)
    assert package.threshold == package.thresholds["specificity_95"]
    predicted = package.images()["probability_PNEUMONIA"] >= package.threshold
    assert (package.images()["predicted_label"] == "PNEUMONIA").tolist() == predicted.tolist()
    assert make_package(head, model) == first
    assert make_package(head, model, operating_point="specificity_95") == other


def test_a_run_is_packaged_where_the_device_that_trained_it_is_not(head: Run, tmp_path: Path) -> None:
    trained_elsewhere = dataclasses.replace(head, devices=["cuda:7"])
    assert make_package(trained_elsewhere, ModelFolder.named(tmp_path, "tiny")).version == "1"


def test_the_number_of_a_version_that_was_deleted_is_not_given_again(head: Run, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path / "models", "head")
    make_package(head, model)
    shutil.rmtree(make_package(head, model, operating_point="specificity_95").path)
    assert make_package(head, model, operating_point="specificity_95").version == "3"


def test_a_run_whose_package_was_copied_to_another_name_is_packaged_anew_under_it(head: Run, tmp_path: Path) -> None:
    original = make_package(head, ModelFolder.named(tmp_path / "models", "head"))
    copied = ModelFolder.named(tmp_path / "models", "copied")
    shutil.copytree(original.path, copied.path / "1", copy_function=os.link)
    package = load_package(make_package(head, copied))
    assert (package.name, package.version) == ("copied", "2")
    assert make_package(head, copied).version == "2"


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [("folds/fold=1/complete.json", "lacks fold 1"), ("metrics/predictions.parquet", "cxr evaluate")],
)
def test_an_unfinished_run_is_refused_and_leaves_nothing(
    head: Run, tmp_path: Path, lacking: str, sentence: str
) -> None:
    run = copy_of(head, tmp_path)
    verified.remove(run.folder.path / lacking)
    model = ModelFolder.named(tmp_path / "models", "tiny")
    with pytest.raises(RunError, match=sentence):
        make_package(run, model)
    assert not list(model.path.glob("*"))


def test_a_killed_packaging_leaves_no_version_and_the_next_sweeps_up(head: Run, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path / "models", "tiny")
    process = start_process(make_package, head, model)
    wait_for(lambda: list(model.path.glob(".making-*")), "the packaging to begin", timeout_s=60)
    process.kill()
    process.join()
    assert [path.name for path in model.path.iterdir()] == [f".making-{process.pid}"]
    assert model.versions() == []
    load_package(make_package(head, model))
    assert sorted(path.name for path in model.path.iterdir()) == ["1", "newest"]


def test_more_than_two_classes_are_packaged_without_thresholds(three: Run, tmp_path: Path) -> None:
    made = make_package(three, ModelFolder.named(tmp_path / "models", "three"))
    package = load_package(made)
    assert (package.classes, package.thresholds) == (("NORMAL", "bacteria", "virus"), {})
    images = package.images()
    probability = images[[f"probability_{name}" for name in package.classes]]
    likeliest = probability.idxmax(axis=1).str.removeprefix("probability_")
    assert images["predicted_label"].tolist() == likeliest.tolist()
    logits = np.stack(
        [predict_logits(package.networks.model(fold), three.squares(three.images().head(8)), "cpu") for fold in (0, 1)]
    )
    assert set(package.predict(logits)[2]) <= set(package.classes)


def test_an_operating_point_for_more_than_two_classes_is_refused_and_leaves_nothing(three: Run, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path / "models", "three")
    with pytest.raises(PackageError, match="--operating-point sensitivity_95 needs two classes, and there are 3"):
        make_package(three, model, operating_point="sensitivity_95")
    assert not list(model.path.glob("*"))
