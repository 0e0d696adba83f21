from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cxr.export.build import make_package
from cxr.images.vitals import fingerprint
from cxr.metrics.calibration import fit_calibration, fit_thresholds
from cxr.serving.novelty import novelty_limit
from cxr.serving.package import Package, load_package
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.training.run import Run


def targets(run: Run, predictions: pd.DataFrame) -> NDArray[np.int64]:
    return np.array([run.classes.index(label) for label in predictions["label"]])


def test_calibration_and_thresholds_come_from_out_of_fold_predictions_alone(
    packaged: tuple[Run, Package],
) -> None:
    run, package = packaged
    predictions = pd.read_parquet(run.folder.path / "metrics" / "predictions.parquet")
    logits, target = predictions[["logit_NORMAL", "logit_PNEUMONIA"]].to_numpy(), targets(run, predictions)
    assert package.calibration == fit_calibration(logits, target)
    probability = np.full(len(predictions), np.nan)
    for fold in (0, 1):
        mine, others = predictions["fold"].to_numpy() == fold, predictions["fold"].to_numpy() != fold
        probability[mine] = fit_calibration(logits[others], target[others]).probability(logits[mine])[:, 1]
    assert package.thresholds == fit_thresholds(probability, target == 1, package.calibration.balanced)
    images = package.images()
    assert images["image_id"].tolist() == predictions["image_id"].tolist()
    calibrated = images[["probability_NORMAL", "probability_PNEUMONIA"]].to_numpy()
    np.testing.assert_allclose(calibrated, package.calibration.probability(logits), atol=1e-12)
    predicted = np.where(images["probability_PNEUMONIA"] >= package.thresholds["youden"], "PNEUMONIA", "NORMAL")
    assert images["predicted_label"].tolist() == predicted.tolist()


def test_the_images_of_a_package_are_described_one_by_one(head: Run, models: Path) -> None:
    images = load_package(make_package(head, ModelFolder.named(models, "head"))).images()
    known = head.images().set_index("image_id")
    assert sorted(images["image_id"]) == sorted(known.index)
    for row in images.itertuples():
        image = known.loc[[row.image_id]].reset_index()
        square = head.squares(image)[0]
        with Image.open(Path(head.config.data) / image["path"][0]) as picture:
            assert (row.width, row.height) == picture.size
        assert (row.label, row.fold) == (image["label"][0], image["fold"][0])
        assert row.fingerprint == fingerprint(square)
        assert (row.mean, row.contrast) == pytest.approx((square.mean(), square.std()))


def test_images_name_no_patient_and_no_path(packaged: tuple[Run, Package]) -> None:
    run, package = packaged
    images, manifest = package.images(), files.read_table(run.folder.manifest)
    assert images.columns.tolist() == [
        "image_id",
        "fingerprint",
        "group",
        "fold",
        "label",
        "probability_NORMAL",
        "probability_PNEUMONIA",
        "novelty",
        "width",
        "height",
        "chroma",
        "mean",
        "contrast",
        "border",
        "dark_share",
        "bright_share",
        "predicted_label",
    ]
    text = images.select_dtypes(exclude="number")
    assert set(text["label"]) | set(text["predicted_label"]) <= {"NORMAL", "PNEUMONIA"}
    assert text[["image_id", "fingerprint"]].map(lambda cell: len(bytes.fromhex(cell))).eq(32).all(axis=None)
    groups = run.images().set_index("image_id").loc[images["image_id"], "group_id"]
    assert len(set(zip(images["group"], groups, strict=True))) == images["group"].nunique() == groups.nunique()
    assert sorted(images["group"].unique()) == list(range(groups.nunique()))
    written = b"".join(f.read_bytes() for f in (package.folder.images, package.folder.description, package.folder.card))
    names = {*manifest["patient_id"].dropna(), *groups, *(Path(path).name for path in manifest["path"])}
    assert not [name for name in names if len(name) > 3 and name.encode() in written]


@torch.inference_mode()
def pooled_features(package: Package, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
    model = package.networks.model(0)
    model.network.fc = nn.Identity()
    return model.network(model.preprocessing.inputs(torch.from_numpy(squares))).numpy()


def test_novelty_stands_for_the_images_that_fold_0_never_saw(packaged: tuple[Run, Package]) -> None:
    run, package = packaged
    images = package.images()
    assert images["novelty"].notna().tolist() == (images["fold"] == 0).tolist()
    known = run.images().set_index("image_id")
    seen, unseen = (
        run.squares(known.loc[images.loc[rows, "image_id"]].reset_index())
        for rows in (images["fold"] != 0, images["fold"] == 0)
    )
    novelty = package.novelty()
    again = novelty.distance(pooled_features(package, unseen), unseen)
    np.testing.assert_allclose(images["novelty"].dropna(), again, rtol=1e-3)
    features = pooled_features(package, seen)
    np.testing.assert_allclose(novelty.network.mean, features.mean(axis=0), atol=1e-4)
    assert np.median(novelty.distance(features, seen)) < np.median(again)
    distance = images["novelty"].dropna().to_numpy()
    expected = {"limit": novelty_limit(distance), "n_images": len(unseen), "share": 0.01, "confidence": 0.95}
    assert package.facts["novelty"] == expected
    assert package.novelty_limit == expected["limit"]
    assert package.novelty_limit >= distance.max(), "of few images, none is flagged"
