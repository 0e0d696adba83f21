from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from scipy.special import softmax

from cxr.network.resnet import Classifier, predict_logits
from cxr.storage import files
from cxr.training import features
from cxr.training.features import extract, open_features
from cxr.training.fold.loop import FoldTrainer
from cxr.training.predictions import load_network
from cxr.training.run import Run
from cxr.training.trainer import train_fold

Begin = Callable[..., Run]


class PlainTrainer(FoldTrainer):
    """The slow obvious twin: every batch goes through the whole network, nothing is kept or folded."""

    def __init__(self, run: Run, fold: int, device: str) -> None:
        super().__init__(run, fold, device)
        self.squares = torch.from_numpy(run.squares(run.images().query("fold != @fold")))
        self.layers, self.inputs = self.model, self

    def take(self, batch: torch.Tensor, generator: torch.Generator, _: int) -> torch.Tensor:
        torch.randint(1, (len(batch),), generator=generator)  # one view: what the cached path draws as well
        return self.model.preprocessing.grey(self.squares[batch])


@pytest.mark.parametrize("trainable", ["head", "layer4"])
def test_cached_features_give_the_predictions_of_the_plain_path(
    begin: Begin, weights_file: str, trainable: str
) -> None:
    rate = {"head": 1e-3, "layer4": 1e-5}[trainable]  # Adam makes steps of rounding errors where gradients vanish
    run = begin(weights=weights_file, trainable=trainable, precision="fp32", epochs=2, size=64, learning_rate=rate)
    train_fold(run, 0, "cpu")
    plain = PlainTrainer(run, 0, "cpu")
    while plain.epoch < run.config.epochs:
        plain.train_epoch()
    images = run.images().query("fold == 0").reset_index(drop=True)
    expected = softmax(predict_logits(plain.model, run.squares(images), "cpu"), axis=1)
    predictions = files.read_table(run.folder.fold(0).predictions)
    assert predictions["path"].tolist() == images["path"].tolist()
    np.testing.assert_allclose(predictions[["probability_NORMAL", "probability_PNEUMONIA"]], expected, atol=1e-5)
    assert files.read_json(run.folder.fold(0).complete)["largest_probability_difference"] < 1e-5


@pytest.mark.parametrize("trainable", ["head", "layer4"])
def test_predictions_from_features_are_averaged_over_the_views_and_training_sees_the_image_alone(
    begin: Begin, weights_file: str, trainable: str
) -> None:
    options = {"weights": weights_file, "trainable": trainable, "precision": "fp32"}
    plain, several = begin("plain", **options), begin("several", **options, test_views="zoom")
    for run in (plain, several):
        train_fold(run, 0, "cpu")
    trained = [load_network(run, 0).state_dict() for run in (plain, several)]
    assert all(torch.equal(tensor, trained[1][name]) for name, tensor in trained[0].items())
    images = several.images().query("fold == 0").reset_index(drop=True)
    squares = several.squares(images)
    logits = [files.read_table(run.folder.fold(0).predictions).filter(like="logit_") for run in (plain, several)]
    expected = predict_logits(load_network(several, 0), squares, "cpu")
    np.testing.assert_allclose(logits[1], expected, atol=1e-3)
    assert np.abs(logits[1] - logits[0]).max().max() > 0.01
    assert len(extract(several, "cpu")) == 5


def test_features_are_computed_once_for_all_folds_and_later_runs(begin: Begin, weights_file: str) -> None:
    run = begin("one", weights=weights_file, trainable="head")
    extract(run, "cpu")
    shards = sorted((run.cache / "features").rglob("*.npy"))
    assert len(shards) == 1
    train_fold(run, 0, "cpu")
    later = begin("two", weights=weights_file, trainable="head", learning_rate=0.01, epochs=3, folds=3)
    for fold in range(3):
        train_fold(later, fold, "cpu")
    assert sorted((run.cache / "features").rglob("*.npy")) == shards


def test_only_images_that_are_new_are_computed(begin: Begin, weights_file: str) -> None:
    run = begin(weights=weights_file, trainable="head")
    extract(run, "cpu")
    (shard,) = (run.cache / "features").rglob("*.npy")
    table = files.read_table(shard.with_suffix(".parquet"))
    ids = table["image_id"]
    files.write_table(shard.with_suffix(".parquet"), table[:-3])
    np.save(shard, np.load(shard)[:-3])
    before = open_features(run, 0, "cpu").load(ids[:-3].tolist())
    extract(run, "cpu")
    new = [s for s in (run.cache / "features").rglob("*.parquet") if s != shard.with_suffix(".parquet")]
    assert [len(files.read_table(s)) for s in new] == [3]
    np.testing.assert_array_equal(open_features(run, 0, "cpu").load(ids[:-3].tolist()), before)


def test_an_image_has_the_same_features_in_any_company(begin: Begin, weights_file: str, monkeypatch) -> None:
    run = begin(weights=weights_file, trainable="head", precision="fp32", views=2)
    extract(run, "cpu")
    ids = run.images()["image_id"].tolist()
    together = [open_features(run, view, "cpu").load(ids) for view in (0, 1)]
    for shard in (run.cache / "features").rglob("*.*"):
        shard.unlink()
    monkeypatch.setattr(features, "CHUNK", 7)
    extract(run, "cpu")
    apart = [open_features(run, view, "cpu").load(ids) for view in (0, 1)]
    for left, right in zip(together, apart, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-4)
    assert np.abs(together[0] - together[1]).max() > 0.01, "the second view is another image"


def test_features_of_other_weights_sizes_and_arithmetic_do_not_mix(
    begin: Begin, weights_file: str, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    torch.save(torchvision.models.resnet50().state_dict(), tmp_path / "other.pth")
    runs = [
        begin("a", weights=weights_file, trainable="head", precision="fp32"),
        begin("b", weights=str(tmp_path / "other.pth"), trainable="head", precision="fp32"),
        begin("c", weights=weights_file, trainable="head", precision="bf16"),
        begin("d", weights=weights_file, trainable="head", precision="fp32", size=64),
        begin("e", weights=weights_file, trainable="layer4", precision="fp32"),
    ]
    extract(runs[0], "cpu")
    some = runs[0].images()["image_id"][0]
    assert [some in open_features(run, 0, "cpu") for run in runs] == [True, False, False, False, False]


def test_bfloat16_features_are_close_to_float32(begin: Begin, weights_file: str) -> None:
    run = begin(weights=weights_file, trainable="layer4", precision="bf16")
    extract(run, "cpu")
    images = run.images().head(8)
    model = Classifier(2).eval()
    model.network.load_state_dict(
        {k: v for k, v in torch.load(weights_file, weights_only=True).items() if not k.startswith("fc.")}, strict=False
    )
    with torch.inference_mode():
        frozen, _ = model.stages("layer4")
        exact = frozen(model.preprocessing.inputs(torch.from_numpy(run.squares(images)))).numpy()
    kept = open_features(run, 0, "cpu").load(images["image_id"].tolist())
    assert kept.dtype == np.float16
    assert np.abs(kept - exact).max() < 0.05 * np.abs(exact).max()
