"""Recalibrated versions, from a labels file to the scores."""

import csv
import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit, softmax

from cxr.errors import ConfigError, DataError, PackageError
from cxr.export.build import make_package
from cxr.images.inbox import single_file
from cxr.metrics.conformal import class_threshold
from cxr.recalibration.labels import read_labels
from cxr.recalibration.recalibrate import recalibrate_model
from cxr.serving import registry
from cxr.serving.package import Package, load_package
from cxr.serving.predictor import Predictor
from cxr.serving.screening import FileReading, read_image
from cxr.storage import files
from cxr.storage.files import sha256_of
from cxr.storage.model_folder import ModelFolder
from cxr.training.run import Run
from tests.support.labels import from_table
from tests.support.packages import sign
from tests.support.shared import NewFolder


def write_labels(file: Path, images: list[Path], patient: Callable[[str], str] | None = None) -> Path:
    """Write a labels file; an image's class is its folder, and its patient follows from its name, if it is known."""
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", *(["patient_id"] if patient else [])])
        for image in images:
            row = [os.path.relpath(image, file.parent), image.parent.name]
            writer.writerow([*row, patient(image.name)] if patient else row)
    return file


def copy_into(folder: Path, image: Path) -> Path:
    """Copy an image into `folder`/CLASS, and return its path there."""
    (folder / image.parent.name).mkdir(parents=True)
    return Path(shutil.copy(image, folder / image.parent.name))


@pytest.fixture(scope="module")
def site(elsewhere: Path, new_folder: NewFolder) -> Path:
    """Forty drawn images of another site, with copies and a truncated file, and labels.csv."""
    place = new_folder("site")
    shutil.copytree(elsewhere, place / "chest_xray")
    write_labels(place / "labels.csv", sorted((place / "chest_xray").rglob("*.jpeg")))
    return place


@pytest.fixture(scope="module")
def original(head: Run, new_folder: NewFolder) -> Package:
    """Version 1 of a model that nothing is written to."""
    return load_package(make_package(head, ModelFolder.named(new_folder("models"), "tiny")))


@pytest.fixture
def model(original: Package, tmp_path: Path) -> ModelFolder:
    """A model with that version as its champion."""
    model = ModelFolder.named(tmp_path / "models", "tiny")
    shutil.copytree(original.folder.path, model.version("1").path, copy_function=os.link)
    registry.promote(model, "1")
    return model


@pytest.fixture(scope="module")
def made(original: Package, site: Path, new_folder: NewFolder) -> Package:
    """A recalibrated version 2 that nothing is written to."""
    model = ModelFolder.named(new_folder("recalibrated"), "tiny")
    shutil.copytree(original.folder.path, model.version("1").path, copy_function=os.link)
    registry.promote(model, "1")
    return load_package(recalibrate_model(model, load_package(model.version("1")), from_table(site / "labels.csv")))


def test_a_recalibrated_version_has_the_same_networks_and_says_where_its_thresholds_come_from(
    original: Package, made: Package, site: Path
) -> None:
    assert (made.version, made.name) == ("2", "tiny")
    for name in ("shared.safetensors", "fold-0.safetensors", "fold-1.safetensors", "novelty.safetensors"):
        assert (made.folder.path / name).samefile(original.folder.path / name)
    assert made.calibration != original.calibration
    assert made.file_hash != original.file_hash
    origin = made.facts["thresholds_from"]
    labels = pd.read_csv(site / "labels.csv")
    left_out = origin["left_out"]
    assert left_out == {"unreadable": 1, "copy": left_out["copy"], "in_training": 0}
    assert left_out["copy"] > 0
    assert sum(origin["n_images"].values()) == len(labels) - sum(left_out.values())
    expected = {
        "source": "labelled_images",
        "version": "1",
        "package": original.file_hash,
        "labels": sha256_of(site / "labels.csv"),
        "n_patients": None,
        "stated_prevalence": None,
        "prevalence": origin["n_images"]["PNEUMONIA"] / sum(origin["n_images"].values()),
    }
    assert {name: origin[name] for name in expected} == expected
    same = ("run_id", "metrics", "config", "hashes", "n_images", "operating_point")
    assert {name: made.facts[name] for name in same} == {name: original.facts[name] for name in same}
    card = " ".join(made.folder.card.read_text().split())
    assert f"fitted to {sum(origin['n_images'].values())} labelled images of another site" in card
    assert origin["labels"] in card
    assert made.thresholds["balanced"] == pytest.approx(made.calibration.balanced)


def test_it_predicts_by_the_map_that_it_states(original: Package, made: Package, site: Path, tmp_path: Path) -> None:
    images = sorted((site / "chest_xray").rglob("person*virus*.jpeg"))[:4]
    readings = [read_image(single_file(path), original.size) for path in images]
    before, after = (
        Predictor(package, device="cpu", precision="fp32", compile="off", cache=tmp_path).predict(readings)
        for package in (original, made)
    )
    origin = made.facts["thresholds_from"]
    for old, new in zip(before, after, strict=True):
        by_fold = np.array([old.by_fold[name] for name in original.classes]).T
        moved = softmax(origin["slope"] * np.log(by_fold) + np.array(origin["bias"]), axis=1).mean(axis=0)
        assert list(new.probability.values()) == pytest.approx(moved, abs=1e-9)
        assert (new.predicted == "PNEUMONIA") == (moved[1] >= made.threshold)


def test_the_reference_images_have_the_probabilities_that_the_version_would_give_them(
    head: Run, original: Package, made: Package
) -> None:
    predictions = pd.read_parquet(head.folder.predictions).set_index("image_id")
    before, images = original.images(), made.images()
    logits = predictions.loc[images["image_id"], head.classes.logit_columns].to_numpy()
    probability = images[head.classes.probability_columns].to_numpy()
    np.testing.assert_allclose(probability, made.calibration.probability(logits), atol=1e-12)
    assert ((probability[:, 1] >= made.threshold) == (images["predicted_label"] == "PNEUMONIA")).all()
    others = [name for name in images if not name.startswith(("probability_", "predicted"))]
    pd.testing.assert_frame_equal(images[others], before[others])


def test_the_rates_before_are_those_of_the_version_that_it_started_from(
    original: Package, made: Package, site: Path, tmp_path: Path
) -> None:
    labels = read_labels(from_table(site / "labels.csv"), None, original.classes, tmp_path)
    readings = [read_image(single_file(site / path), original.size) for path in labels.rows["path"]]
    kept = [
        (reading, label) for reading, label in zip(readings, labels.rows["label"], strict=True) if not reading.refused
    ]
    images = {reading.image_id: (reading, label) for reading, label in reversed(kept)}
    predictor = Predictor(original, device="cpu", precision="fp32", compile="off", cache=tmp_path)
    truth = np.array([label == "PNEUMONIA" for _, label in images.values()])
    predictions = predictor.predict([reading for reading, _ in images.values()])
    score = np.array([prediction.probability["PNEUMONIA"] for prediction in predictions])
    for row in made.facts["thresholds_from"]["operating_points"]:
        is_positive = score >= original.thresholds[row["operating_point"]]
        assert row["sensitivity_before"] == pytest.approx(is_positive[truth].mean())
        assert row["specificity_before"] == pytest.approx((~is_positive[~truth]).mean())
        assert row["threshold"] == made.thresholds[row["operating_point"]]


def test_the_same_labels_give_the_same_version_and_it_starts_from_the_version_that_was_made_from_the_run(
    model: ModelFolder, site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="cxr")
    first = load_package(recalibrate_model(model, load_package(model.version("1")), from_table(site / "labels.csv")))
    again = recalibrate_model(model, first, from_table(site / "labels.csv"))
    assert (first.version, again.version) == ("2", "2")
    assert "version 2 was itself recalibrated: this starts from version 1, as it did" in caplog.text
    other = load_package(recalibrate_model(model, first, from_table(site / "labels.csv"), operating_point="half"))
    assert (other.version, other.operating_point, other.threshold) == ("3", "half", 0.5)
    assert other.facts["thresholds_from"]["version"] == "1"
    shutil.rmtree(model.version("1").path)
    with pytest.raises(PackageError, match="version 2 of tiny was recalibrated from version 1, which is gone: package"):
        recalibrate_model(model, first, from_table(site / "labels.csv"))


def test_it_is_promoted_without_a_comparison_rolled_back_and_listed(model: ModelFolder, site: Path) -> None:
    made = recalibrate_model(model, load_package(model.version("1")), from_table(site / "labels.csv"), prevalence=0.1)
    verdict = registry.promote(model, made.version)
    n_images = sum(load_package(made).facts["thresholds_from"]["n_images"].values())
    origin = f"{n_images} labelled images, from version 1, for a prevalence of 10%"
    assert verdict == (
        "it has the champion's networks, which rank images alike; its thresholds: "
        f"{origin}; the champion's: out of fold"
    )
    assert registry.list_models(model.path.parent)["thresholds"].tolist() == ["out of fold", origin]
    assert registry.rollback(model) == "1"
    assert "rank images alike" in registry.promote(model, "2")


def test_images_that_the_model_was_made_from_are_left_out_and_too_few_are_refused(
    head: Run, model: ModelFolder, site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = sorted(Path(head.config.data).rglob("*.jpeg"))
    known = [path for path in own if sha256_of(path) in set(head.images()["image_id"])]
    new = sorted((site / "chest_xray").rglob("NORMAL/*.jpeg"))[:4]
    copies = [copy_into(tmp_path / "images" / str(k), path) for k, path in enumerate([*known, *new])]
    labels = write_labels(tmp_path / "labels.csv", copies)
    with pytest.raises(
        DataError, match=rf"needs 5 images or more, and the {len(known) + 4} rows leave \d of NORMAL, 0 of PNEUMONIA"
    ):
        recalibrate_model(model, load_package(model.version("1")), from_table(labels))
    assert "the model was made from this image, or a copy of it" in caplog.text
    assert model.versions() == ["1"]


@pytest.mark.parametrize("prevalence", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_a_prevalence_that_is_none_is_refused(model: ModelFolder, site: Path, head: Run, prevalence: float) -> None:
    for make in (
        lambda: recalibrate_model(
            model, load_package(model.version("1")), from_table(site / "labels.csv"), prevalence=prevalence
        ),
        lambda: make_package(head, model, prevalence=prevalence),
    ):
        with pytest.raises(ConfigError, match="--prevalence must lie between 0 and 1, and be neither"):
            make()


def test_a_run_is_packaged_for_a_stated_prevalence(head: Run, original: Package, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path / "models", "rare")
    package = load_package(make_package(head, model, prevalence=0.02, operating_point="half"))
    own = float((head.images()["label"] == "PNEUMONIA").mean())
    offset = np.log(0.02 / 0.98) - np.log(own / (1 - own))
    before, after = original.images(), package.images()
    moved = expit(logit(before["probability_PNEUMONIA"]) + offset)
    np.testing.assert_allclose(after["probability_PNEUMONIA"], moved, rtol=1e-9)
    for point in ("balanced", "youden", "sensitivity_95", "specificity_95"):
        expected = (before["probability_PNEUMONIA"] >= original.thresholds[point]).tolist()
        assert (after["probability_PNEUMONIA"] >= package.thresholds[point]).tolist() == expected
    assert package.threshold == 0.5
    origin = {"source": "out_of_fold", "prevalence": pytest.approx(own), "stated_prevalence": 0.02}
    assert package.facts["thresholds_from"] == origin
    assert f"a stated prevalence of 2% PNEUMONIA, not for the {100 * own:.1f}%" in " ".join(
        package.folder.card.read_text().split()
    )
    assert make_package(head, model, prevalence=0.02, operating_point="half").version == "1"
    assert make_package(head, model, operating_point="half").version == "2"


def test_more_than_two_classes_are_recalibrated_without_thresholds(three: Run, site: Path, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path / "models", "three")
    package = load_package(make_package(three, model))
    images = sorted((site / "chest_xray").rglob("*.jpeg"))
    of_bytes = {path: int(sha256_of(path)[0], 16) % 3 for path in images}  # copies get one label
    rows = "".join(f"{path},{three.classes[k]}\n" for path, k in of_bytes.items())
    (tmp_path / "labels.csv").write_text("path,label\n" + rows)
    made = load_package(recalibrate_model(model, package, from_table(tmp_path / "labels.csv"), images=site))
    assert made.thresholds == {}
    assert made.calibration != package.calibration
    assert len(made.calibration.bias) == 3
    with pytest.raises(PackageError, match="--prevalence needs two classes, and there are 3"):
        recalibrate_model(model, package, from_table(tmp_path / "labels.csv"), images=site, prevalence=0.5)
    with pytest.raises(PackageError, match="--operating-point half needs two classes, and there are 3"):
        recalibrate_model(model, package, from_table(tmp_path / "labels.csv"), images=site, operating_point="half")


def test_a_package_of_before_gets_the_balanced_point_from_its_calibration(model: ModelFolder) -> None:
    package = load_package(model.version("1"))
    facts = {name: value for name, value in package.facts.items() if name != "thresholds_from"}
    facts["thresholds"] = {name: value for name, value in facts["thresholds"].items() if name != "balanced"}
    old = model.version("2")
    shutil.copytree(model.version("1").path, old.path, copy_function=os.link)
    old.description.unlink()
    files.write_json(old.description, facts | {"version": "2"})
    sign(old)
    loaded = load_package(old)
    assert loaded.thresholds == package.thresholds
    assert dataclasses.replace(loaded, folder=package.folder, facts=package.facts) == package
    assert registry.list_models(model.path.parent)["thresholds"].tolist() == ["out of fold"] * 2


@pytest.fixture(scope="module")
def referring(head: Run, new_folder: NewFolder) -> ModelFolder:
    """A model whose version 1 refers images: at a level for which 6 patients of each class are needed."""
    model = ModelFolder.named(new_folder("referring"), "tiny")
    make_package(head, model, refer=0.15)
    return model


def test_referral_is_fitted_anew_to_the_labelled_images(referring: ModelFolder, site: Path, tmp_path: Path) -> None:
    start = load_package(referring.version("1"))
    made = load_package(recalibrate_model(referring, start, from_table(site / "labels.csv")))
    facts = made.facts["refer"]
    assert (facts["level"], facts["source"]) == (0.15, "labelled_images")
    assert facts["n_patients"] == made.facts["thresholds_from"]["n_images"]
    assert "rates" not in facts
    images = sorted((site / "chest_xray").rglob("*.jpeg"))
    readings = {reading.image_id: (reading, path.parent.name) for path, reading in read_all(images, made)}
    predictor = Predictor(made, device="cpu", precision="fp32", compile="off", cache=tmp_path)
    predictions = predictor.predict([reading for reading, _ in readings.values()])
    for name in made.classes:
        labelled = zip(readings.values(), predictions, strict=True)
        own = [answer.probability[name] for (_, label), answer in labelled if label == name]
        expected = class_threshold(np.array(own), np.arange(len(own)), 0.15)
        assert facts["thresholds"][name] == pytest.approx(expected, abs=1e-9)
    card = " ".join(made.folder.card.read_text().split())
    assert "They come from the labelled images of the other site, which no network was trained on." in card


def read_all(images: list[Path], package: Package) -> list[tuple[Path, FileReading]]:
    """Read images; leave out those that cannot be used."""
    readings = [(path, read_image(single_file(path), package.size)) for path in images]
    return [(path, reading) for path, reading in readings if reading.refused is None]


def test_referral_is_dropped_and_says_so_where_the_labelled_images_have_too_few_patients(
    referring: ModelFolder, site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = sorted((site / "chest_xray").rglob("*.jpeg"))
    labels = write_labels(site / "patients.csv", images, patient=lambda name: str(sum(name.encode()) % 5))
    start = load_package(referring.version("1"))
    made = load_package(recalibrate_model(referring, start, from_table(labels), cache=tmp_path))
    assert made.referral is None
    assert made.facts["refer_dropped"] == {"level": 0.15, "n_patients": {"NORMAL": 5, "PNEUMONIA": 5}}
    sentence = (
        "this version refers no image: thresholds for --refer 0.15 need 6 patients of each class, and there are 5"
    )
    assert sentence in caplog.text
    card = " ".join(made.folder.card.read_text().split())
    assert "This version refers no image." in card
    assert "5 of NORMAL, 5 of PNEUMONIA" in card
