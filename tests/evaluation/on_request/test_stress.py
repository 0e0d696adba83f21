import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.report_numbers import disagreements
from cxr.cli.app import app
from cxr.errors import ConfigError
from cxr.evaluation.on_request.stress import CHANGES, LEVELS, change_image, sample_images
from cxr.evaluation.tables import metrics_table
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run
from tests.support.runs import Finished
from tests.support.shared import NewFolder

GENERATOR = np.random.default_rng(0)
SMOOTH = Image.fromarray(GENERATOR.integers(60, 200, (4, 6), dtype=np.uint8)).resize((240, 160))
IMAGE = Image.fromarray(np.asarray(SMOOTH) + GENERATOR.integers(0, 30, (160, 240), dtype=np.uint8))
ID = "0" * 64


@pytest.fixture(scope="module")
def folder(finished: Finished, new_folder: NewFolder) -> RunFolder:
    """A finished run after `cxr stress` with twenty images."""
    place = new_folder("stressed")
    shutil.copytree(finished().folder.path, place / "run")
    app(["stress", "run", "--images", "20", "--experiments", str(place), "--device", "cpu"])
    return RunFolder(place / "run")


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_stronger_change_is_further_from_the_image_and_is_the_same_each_time(change) -> None:
    made = [change_image(IMAGE, ID, (change, strength), 0) for strength in range(1, 5)]
    apart = [distance(IMAGE, image) for image in made]
    assert apart == sorted(apart)
    assert apart[0] > 0
    for strength, image in enumerate(made, 1):
        assert image.size == IMAGE.size
        assert image.mode == "L"
        assert distance(image, change_image(IMAGE, ID, (change, strength), 0)) == 0


def test_noise_and_turns_differ_from_image_to_image_and_by_seed() -> None:
    noise = CHANGES[1], 2
    assert distance(change_image(IMAGE, ID, noise, 0), change_image(IMAGE, "1" * 64, noise, 0)) > 1
    assert distance(change_image(IMAGE, ID, noise, 0), change_image(IMAGE, ID, noise, 1)) > 1
    ids = [hashlib.sha256(bytes([k])).hexdigest() for k in range(12)]
    turns = {change_image(IMAGE, image_id, (CHANGES[4], 4), 0).tobytes() for image_id in ids}
    assert len(turns) == 2, "to either side"


def test_images_are_drawn_by_class_and_the_same_by_seed() -> None:
    images = pd.DataFrame({"label": ["A"] * 90 + ["B"] * 10, "path": [f"{k:03d}" for k in range(100)]})
    drawn = sample_images(images, 20, 0)
    assert drawn["label"].value_counts().to_dict() == {"A": 18, "B": 2}
    pd.testing.assert_frame_equal(drawn, sample_images(images, 20, 0))
    assert sample_images(images, 20, 1)["path"].tolist() != drawn["path"].tolist()
    assert sample_images(images, 3, 0)["label"].value_counts().to_dict() == {"A": 3, "B": 1}
    assert sample_images(images, 100, 0) is images


def test_unchanged_images_have_the_metrics_of_the_out_of_fold_table(folder: RunFolder) -> None:
    table = files.read_table(folder.table("stress"))
    assert len(table) == len(LEVELS) * 4
    predictions = files.read_table(folder.predictions)
    drawn = sample_images(load_run(folder).images(), 20, 0)["path"]
    images = predictions.set_index("path").loc[drawn].reset_index()
    pooled = metrics_table(images, load_run(folder).classes).query("scope == 'pooled'").set_index("metric")
    unchanged = table.query("change == 'unchanged'").set_index("metric")
    for metric in ("roc_auc", "sensitivity", "specificity", "accuracy"):
        columns = ["value", "ci_low", "ci_high"]
        assert unchanged.loc[metric, columns].tolist() == pytest.approx(pooled.loc[metric, columns].tolist(), abs=1e-9)
    assert (unchanged[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)
    assert (table["n"] == 20).all()


def test_the_report_shows_it_and_training_anew_forgets_it(folder: RunFolder, tmp_path: Path) -> None:
    text = folder.report.read_text()
    assert "figures/robustness.svg" in text
    assert disagreements(folder.path)[1] == []
    shutil.copytree(folder.path, tmp_path / "run")
    load_run(RunFolder(tmp_path / "run")).forget_fold(0)
    assert not RunFolder(tmp_path / "run").table("stress").exists()


def test_no_image_at_all_is_refused(folder: RunFolder) -> None:
    with pytest.raises(ConfigError, match="--images must lie between 1 and 10000000, got 0"):
        app(["stress", str(folder.path), "--images", "0"])
