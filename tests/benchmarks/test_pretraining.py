from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.barlow_twins import N_OUTPUTS, OFF_DIAGONAL, correlations, redundancy, spread
from benchmarks.pretraining import METRICS, Start, differences, require_unseen
from benchmarks.recipes import Trial
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.bootstrap import draw_groups
from cxr.storage import files, verified
from cxr.storage.files import sha256_of
from cxr.training.run import Run, load_run
from tests.support.predictions import simulate
from tests.support.shared import NewFolder

TINY = {"size": 32, "epochs": 1, "batch_size": 64}


@pytest.fixture(scope="module")
def start(sample: Path, new_folder: NewFolder) -> Start:
    """A fold pretrained, and trained from there, on the drawn images."""
    trial = Trial(str(sample), new_folder("trial"), "cpu", 1, TINY)
    trial.begin("base", "clusters", 0)
    start = Start(trial, "clusters", seed=0, fold=1, epochs=1)
    start.pretrain()
    start.train("pretrained")
    return start


def twin_of(start: Start) -> Run:
    return load_run(start.trial.folder("base", start.folds, start.seed))


def test_pretraining_sees_the_training_images_of_the_fold_and_no_other(start: Start) -> None:
    folds = twin_of(start).images()
    manifest = verified.read_table(twin_of(start).folder.manifest).set_index("image_id")
    seen = files.read_table(start.images)["image_id"]
    assert set(seen) == set(folds.loc[folds["fold"] != 1, "image_id"])
    assert {0, 1, 2} == set(folds["fold"])
    assert "test" in set(manifest["split"])
    assert not (manifest.loc[seen, "split"] == "test").any()
    patients = folds.set_index("image_id")["group_id"]
    assert not set(patients[seen]) & set(folds.loc[folds["fold"] == 1, "group_id"])


def test_images_that_judge_a_trunk_are_refused(start: Start) -> None:
    run = twin_of(start)
    with pytest.raises(RuntimeError, match="must not be pretrained on images that judge it"):
        require_unseen(run, 1, run.images())
    manifest = verified.read_table(run.folder.manifest)
    held_out = manifest[manifest["split"] == "test"].assign(group_id="another")
    with pytest.raises(RuntimeError, match=r"'images of the split test': [1-9]"):
        require_unseen(run, 1, held_out)


def test_an_arm_differs_from_its_twin_in_the_weights_that_it_starts_from(start: Start) -> None:
    twin, arm = twin_of(start), load_run(start.arm("pretrained"))
    changed = {name for name, value in twin.identity.items() if arm.identity[name] != value}
    assert changed == {"weights"}
    assert arm.weights_hash == sha256_of(start.weights)
    pd.testing.assert_frame_equal(arm.images(), twin.images())
    assert start.is_trained("pretrained")
    assert not start.is_trained("pretrained, ten times the rate")


def test_a_finished_trunk_is_not_computed_again(start: Start) -> None:
    written = start.record.stat().st_mtime_ns, start.weights.stat().st_mtime_ns
    start.pretrain()
    start.train("pretrained")
    assert (start.record.stat().st_mtime_ns, start.weights.stat().st_mtime_ns) == written


def test_a_record_says_how_the_pretraining_went(start: Start) -> None:
    record = files.read_json(start.record)
    assert record["n_images"] == len(files.read_table(start.images))
    assert [row["epoch"] for row in record["history"]] == [1]
    assert all(0 <= value <= 1 for value in record["probe"].values())
    assert not [name for name in load_file(start.weights) if name.startswith("fc.")]


def test_the_loss_is_what_its_definition_gives_number_by_number() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(20, 4)), generator.normal(size=(20, 4))
    expected = 0.0
    for i in range(4):
        for j in range(4):
            correlation = np.corrcoef(first[:, i], second[:, j])[0, 1]
            expected += (1 - correlation) ** 2 if i == j else OFF_DIAGONAL * correlation**2
    found = redundancy(correlations(torch.tensor(first), torch.tensor(second)))
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_outputs_that_fill_the_sphere_spread_by_1_and_collapsed_ones_by_0() -> None:
    generator = torch.Generator().manual_seed(0)
    assert spread(torch.randn(512, N_OUTPUTS, generator=generator)).item() == pytest.approx(1, abs=0.01)
    assert spread(torch.ones(512, 8) * torch.arange(1, 9)).item() == pytest.approx(0, abs=1e-6)


def test_gains_and_their_intervals_are_those_of_numpy_on_the_same_draws() -> None:
    before, after = simulate(240, n_folds=3), shifted(simulate(240, n_folds=3))
    rows = pd.DataFrame(differences(before, after)).set_index(["images", "metric"])
    group = before.predictions["group_id"].factorize()[0]
    weights = np.vstack([np.ones(len(group)), draw_groups(group.max() + 1)[:, group]])  # first all images once
    by_fold = {f"fold {fold}": {} for fold in range(3)}
    parts = {**{name: before.fold == fold for fold, name in enumerate(by_fold)}, "pooled": np.full(len(group), True)}
    for metric in METRICS:
        drawn = {name: [by_hand(i, mask, metric, weights) for i in (before, after)] for name, mask in parts.items()}
        drawn["mean of the folds"] = np.mean([drawn[name] for name in by_fold], axis=0)
        for name, (then, now) in drawn.items():
            low, high = np.percentile((now - then)[1:], [2.5, 97.5])
            row = rows.loc[(name, metric)]
            assert row.iloc[:5].to_numpy(float) == pytest.approx(
                [then[0], now[0], now[0] - then[0], low, high], abs=6e-5
            )
            assert row["beyond the interval"] == ("gain" if low > 0 else "loss" if high < 0 else "neither")
    assert len(rows) == 5 * len(METRICS)


def shifted(images: OutOfFold) -> OutOfFold:
    """Return the predictions with noise, and with a logit that favours the positive class."""
    noise = np.random.default_rng(1).normal(1, 2, len(images.predictions))
    changed = images.predictions.assign(logit_PNEUMONIA=images.predictions["logit_PNEUMONIA"] + noise)
    return OutOfFold(changed, images.classes)


def by_hand(images: OutOfFold, rows: np.ndarray, metric: str, weights_Rn: np.ndarray) -> np.ndarray:
    """Return a metric of some images in every replicate, from all pairs or from a weighted mean."""
    table, weight = images.predictions[rows], weights_Rn[:, rows]
    margin = (table["logit_PNEUMONIA"] - table["logit_NORMAL"]).to_numpy()
    truth = (table["label"] == "PNEUMONIA").to_numpy()
    if metric == "roc_auc":
        wins_PN = margin[truth, None] > margin[None, ~truth]
        of_pairs = (weight[:, truth] @ wins_PN * weight[:, ~truth]).sum(axis=1)
        return of_pairs / weight[:, truth].sum(axis=1) / weight[:, ~truth].sum(axis=1)
    kind, right = (truth, margin > 0) if metric == "sensitivity" else (~truth, margin <= 0)
    return weight[:, kind] @ right[kind] / weight[:, kind].sum(axis=1)


def test_predictions_of_other_images_are_not_compared() -> None:
    with pytest.raises(RuntimeError, match="the same images in the same folds"):
        list(differences(simulate(90, n_folds=3), simulate(90, n_folds=3, seed=1)))
