"""Whether a network gains on images unlike those it was trained on by a start on unlabelled images.

    python -m benchmarks.pretraining --data chest_xray_224.zip --place DIR
    python -m benchmarks.pretraining --data chest_xray_224.zip --place DIR --device cuda:0 --together 6 --epochs 200

For each fold a trunk is pretrained on the fold's training images alone, without their labels; the images that the fold
leaves out and the split `test` are never seen. From there the fold is trained as its twin was, a row of
`benchmarks.recipes` in the same folds that starts from random weights: `--place` may be the folder of its runs, which
are not computed again. As with any `--weights`, the trunk learns at a tenth of the head's rate; an arm with ten times
the rate gives it that of its twin. Metrics are those of images that no network has seen, at a logit of 0 where a metric
needs a threshold; their differences have intervals over patients, drawn the same for both. A linear probe asks what the
frozen trunk knows before any training with labels.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save

from benchmarks import recipes
from benchmarks.barlow_twins import BarlowTwins, new_network
from benchmarks.linear_probe import probe
from benchmarks.recipes import FOLDS, N_FOLDS, Trial, estimates, images_of, require_same_images
from benchmarks.results import keep
from cxr.config import Execution
from cxr.dataset.examination import examine
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.network.resnet import Classifier, load_pretrained
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run
from cxr.training.run import Run, load_run
from cxr.training.trainer import train_fold


@dataclass(frozen=True)
class Arm:
    """A recipe that starts from a pretrained trunk."""

    twin: str
    """The row of `benchmarks.recipes` that starts from random weights."""
    changed: Mapping[str, Any]
    """What it has beside the weights that its twin has not."""


ARMS: Mapping[str, Arm] = {
    "pretrained": Arm("base", {}),
    "pretrained, ten times the rate": Arm("base", {"learning_rate": 1e-2}),
    "pretrained, a quarter of the epochs": Arm("a quarter of the epochs", {}),
    "pretrained, a quarter of the epochs, ten times the rate": Arm("a quarter of the epochs", {"learning_rate": 1e-2}),
}
METRICS = ("roc_auc", "sensitivity", "specificity")


@dataclass(frozen=True)
class Start:
    """A fold's pretrained trunk, and the runs of one fold that start from it."""

    trial: Trial
    folds: str
    seed: int
    fold: int
    epochs: int
    """Of the pretraining."""

    @property
    def folder(self) -> Path:
        """What belongs to the trunk: `weights`, `images`, `record`, and a run for each arm."""
        return self.trial.place / f"pretrained-{self.folds}-seed{self.seed}-{self.epochs}-epochs" / f"{self.fold}"

    @property
    def weights(self) -> Path:
        """The trunk, as `--weights` takes it."""
        return self.folder / "trunk.safetensors"

    @property
    def images(self) -> Path:
        """A table of the images that were seen."""
        return self.folder / "images.parquet"

    @property
    def record(self) -> Path:
        """How the pretraining went; written last."""
        return self.folder / "record.json"

    def arm(self, name: str) -> RunFolder:
        """Return the folder of an arm's run, of which only this fold is trained."""
        return RunFolder(self.folder / recipes.slug(name))

    def pretrain(self) -> None:
        """Pretrain the trunk on the fold's training images, unless it is there."""
        run = load_run(self.trial.folder("base", self.folds, self.seed))
        if self.record.exists() and files.read_json(self.record)["config_hash"] == run.config_hash:
            return
        torch.set_num_threads(run.n_threads[self.fold])
        images = run.training_images(self.fold)
        require_unseen(run, self.fold, images)
        twins = BarlowTwins(run, self.fold, images, self.trial.device, self.epochs)
        seconds = twins.train()
        with files.replacing(self.weights) as temporary:
            temporary.write_bytes(save(twins.trunk()))
        files.write_table(self.images, images[["image_id", "path"]])
        trained = Classifier(len(run.outputs), load_pretrained(str(self.weights)), run.config.standardise)
        networks = {"random": new_network(run, self.fold), "pretrained": trained}
        probes = {name: probe(run, self.fold, network, self.trial.device) for name, network in networks.items()}
        facts = {"n_images": len(images), "seconds": round(seconds), "probe": probes, "history": twins.history}
        files.write_json(self.record, {"config_hash": run.config_hash, **facts})

    def train(self, name: str) -> None:
        """Train the fold from the trunk as its twin was trained from random weights, unless it is finished."""
        arm, folder = ARMS[name], self.arm(name)
        twin = load_run(self.trial.folder(arm.twin, self.folds, self.seed))
        config = dataclasses.replace(twin.config, weights=str(self.weights), **arm.changed)
        examine(config, folder, cache=twin.cache, size=config.size)
        run = begin_run(config, folder, Execution(cache=twin.cache, devices=",".join(twin.devices)))
        train_fold(run, self.fold, self.trial.device)

    def is_trained(self, name: str) -> bool:
        """Return whether the fold of an arm is finished."""
        return verified.exists(self.arm(name).fold(self.fold).complete)


def main() -> None:
    """Compute what is missing, then keep the figures of all that is finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--place", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--folds", nargs="+", choices=FOLDS, default=["clusters"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=30, help="of the pretraining")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--together", type=int, default=2, help="folds that are computed at the same time")
    arguments = parser.parse_args()
    trial = Trial(arguments.data, arguments.place, arguments.device, arguments.together)
    runs = [(folds, seed) for seed in arguments.seeds for folds in arguments.folds]
    compute(trial, runs, arguments.only, arguments.epochs)
    keep("pretraining", figures(trial, runs, arguments.epochs))


def compute(trial: Trial, runs: Sequence[tuple[str, int]], arms: Sequence[str], epochs: int) -> None:
    """Train the twins, then all trunks, then the arms, several folds at the same time."""
    twins = dict.fromkeys(ARMS[name].twin for name in arms)
    recipes.train(trial, [(twin, *run) for run in runs for twin in twins])
    starts = [start for run in runs for start in starts_of(trial, *run, epochs)]
    with ProcessPoolExecutor(trial.together, get_context("spawn"), recipes.end_with_parent) as pool:
        for begun in [pool.submit(trial.begin, "base", *run) for run in runs]:
            begun.result()
        finish(pool, "pretrained", Start.pretrain, [(start,) for start in starts])
        finish(pool, "trained", Start.train, [(start, name) for name in arms for start in starts])


def starts_of(trial: Trial, folds: str, seed: int, epochs: int) -> list[Start]:
    """Return the start of each fold."""
    return [Start(trial, folds, seed, fold, epochs) for fold in range(N_FOLDS)]


def finish(pool: ProcessPoolExecutor, done: str, work: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
    """Do the work for each start, and say when each is done."""
    started = {pool.submit(work, *call): call for call in calls}
    for finished in as_completed(started):
        finished.result()
        start, *names = started[finished]
        print(f"{', '.join([done, *names])}: {start.folds}, seed {start.seed}, fold {start.fold}", flush=True)


def require_unseen(run: Run, fold: int, images: pd.DataFrame) -> None:
    """Raise RuntimeError if the fold leaves out one of the images or of their patients, or the holdout has one."""
    all_images, manifest = run.images(), verified.read_table(run.folder.manifest)
    left_out = all_images[all_images["fold"] == fold]
    held_out = manifest.loc[manifest["split"] == run.config.holdout, "image_id"]
    n_seen = {
        "images that the fold leaves out": int(images["image_id"].isin(left_out["image_id"]).sum()),
        "images of patients that the fold leaves out": int(images["group_id"].isin(left_out["group_id"]).sum()),
        f"images of the split {run.config.holdout}": int(images["image_id"].isin(held_out).sum()),
    }
    if any(n_seen.values()):
        raise RuntimeError(f"a trunk must not be pretrained on images that judge it, but sees {n_seen}.")


def figures(trial: Trial, runs: Sequence[tuple[str, int]], epochs: int) -> dict[str, Any]:
    """Return the figures of every trunk, and of every arm whose folds are all finished."""
    found: dict[str, Any] = {}
    for folds, seed in runs:
        starts = starts_of(trial, folds, seed, epochs)
        title = f"{folds}, seed {seed}"
        found[f"{title}: {epochs} epochs of pretraining"] = [files.read_json(start.record) for start in starts]
        for name in ARMS:
            if all(start.is_trained(name) for start in starts):
                before = images_of(trial.folder(ARMS[name].twin, folds, seed))
                found[f"{title}: {name}"] = list(differences(before, predictions_of(name, starts)))
    return found


def predictions_of(name: str, starts: Sequence[Start]) -> OutOfFold:
    """Return the images of an arm, each predicted by the fold that left it out."""
    folders = [start.arm(name) for start in starts]
    parts = [verified.read_table(folder.fold(fold).predictions) for fold, folder in enumerate(folders)]
    return OutOfFold(pd.concat(parts, ignore_index=True), load_run(folders[0]).classes)


def differences(before: OutOfFold, after: OutOfFold) -> Iterator[dict[str, Any]]:
    """Yield what each metric gains, by fold, in the mean over folds and over all images, with its interval.

    Args:
        before: predictions of networks that started from random weights.
        after: those of pretrained networks.

    Raises:
        RuntimeError: they are not of the same images in the same folds.
    """
    require_same_images(before, after)
    then, now = estimates(before), estimates(after)
    for part, metric in ((part, metric) for part in then for metric in METRICS):
        gain, low, high = now[part].difference(metric, then[part])
        values = {
            "random start": then[part].values[metric].value,
            "pretrained": now[part].values[metric].value,
            "gain": gain,
            "ci_low": low,
            "ci_high": high,
        }
        rounded = {name: round(float(value), 4) for name, value in values.items()}
        verdict = "gain" if low > 0 else "loss" if high < 0 else "neither"
        yield {"images": part, "metric": metric} | rounded | {"beyond the interval": verdict}


if __name__ == "__main__":
    main()
