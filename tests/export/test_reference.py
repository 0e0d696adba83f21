import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.evaluation.tables import evaluate
from cxr.export.build import make_package
from cxr.export.reference import fit_image_novelty, reference_table
from cxr.images.vitals import measure_levels
from cxr.metrics.drift import ACQUISITION
from cxr.serving.novelty import brightness_map, fit_novelty
from cxr.serving.package import load_package
from cxr.storage import files, verified
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run
from tests.support.runs import Finished


def test_a_run_and_its_package_hold_the_same_reference(finished: Finished, tmp_path: Path) -> None:
    run = finished()
    images = load_package(make_package(run, ModelFolder.named(tmp_path, "same"))).images()
    table = files.read_table(run.folder.table("drift_reference"))
    assert set(table["measure"]) == set(ACQUISITION)
    for row in table.itertuples():
        assert row.value == np.quantile(images[str(row.measure)].to_numpy(float), row.quantile), row.measure
    at_size = [measure_levels(square).mean for square in run.squares(run.images())]
    in_manifest = files.read_table(run.folder.manifest).query("status == 'used'")["mean"]
    median = table.query("measure == 'mean' and quantile == 0.5")["value"].item()
    assert median == np.median(at_size)
    assert median != in_manifest.median(), "the manifest measures at 256 px"


def test_a_run_whose_images_are_gone_has_a_reference_of_sizes_and_says_so(
    finished: Finished, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder(tmp_path / "gone")
    shutil.copytree(finished().folder.path, folder.path)
    before = files.read_table(folder.table("drift_reference")).set_index(["measure", "quantile"])["value"]
    record = files.read_record(folder.config)
    away = record | {"cache": str(tmp_path), "config": record["config"] | {"data": str(tmp_path / "away")}}
    verified.write_json(folder.config, away)
    evaluate(load_run(folder))
    after = files.read_table(folder.table("drift_reference")).set_index(["measure", "quantile"])["value"]
    assert after["width", 0.5] == before["width", 0.5]
    assert np.isnan(after["mean", 0.5])
    assert "the drift reference has no grey levels" in caplog.text
    assert "does not exist" in caplog.text


def test_novelty_is_fitted_on_features_and_on_brightness_maps() -> None:
    squares = np.random.default_rng(0).integers(0, 255, (30, 32, 32)).astype(np.uint8)

    def features(squares: np.ndarray) -> np.ndarray:
        return squares.reshape(len(squares), -1)[:, :5].astype(np.float32)

    novelty = fit_image_novelty(features, squares)
    np.testing.assert_array_equal(novelty.network.mean, squares.reshape(30, -1)[:, :5].mean(axis=0, dtype=np.float32))
    np.testing.assert_array_equal(novelty.brightness.scale, fit_novelty(brightness_map(squares)).scale)
    distance = novelty.brightness.distance(brightness_map(squares))
    expected = np.hypot(novelty.network.distance(features(squares)), distance)
    np.testing.assert_array_equal(novelty.distance(features(squares), squares), expected)


def test_a_reference_numbers_its_groups_and_names_no_patient() -> None:
    squares = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    predictions = pd.DataFrame(
        {
            "image_id": ["i", "j", "k"],
            "path": ["a", "b", "c"],
            "group_id": ["person9", "person1", "person9"],
            "fold": [0, 1, 0],
            "label": ["N", "P", "N"],
        }
    )
    table = reference_table(predictions, squares)
    assert table.columns.tolist() == ["image_id", "fingerprint", "group", "fold", "label"]
    assert table["group"].tolist() == [0, 1, 0]
    assert table["fingerprint"].nunique() == 3
