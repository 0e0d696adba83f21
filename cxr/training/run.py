"""A run that has begun: what identifies it, which of its folds are complete, and where its images come from.

A run's identity is its config, the content of its data and the content of its pretrained weights, hashed together.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes, Findings, outputs_of_record, require_classes
from cxr.config import Compile, TrainConfig
from cxr.dataset.folds import read_folds
from cxr.dataset.pictures import read_squares
from cxr.errors import DamagedError, RunError
from cxr.images.decoding import open_prepared
from cxr.storage import files, verified
from cxr.storage.run_folder import FoldFolder, RunFolder, way_out

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run that has begun."""

    folder: RunFolder
    config: TrainConfig
    identity: Mapping[str, Any]
    """The config's fields, with hashes of the images and of the pretrained weights as `data` and `weights`."""
    outputs: Classes | Findings
    """What the network's outputs mean, in their order."""
    cache: Path
    devices: list[str]
    """One for each fold that runs at the same time."""
    n_threads: list[int]
    """CPU threads of each fold, the same wherever it is trained: another number would give other bits."""
    compile: Compile
    share: float = 1.0
    """Share of each fold's training patients that is trained on; below 1 only for a learning curve."""

    @classmethod
    def from_record(cls, folder: RunFolder, record: Mapping[str, Any]) -> "Run":
        """Return the run that `to_record` described, in `folder`.

        Raises:
            DamagedError: config, identity and hash contradict each other.
        """
        try:
            run = cls(
                folder=folder,
                config=TrainConfig.from_dict(record["config"]),
                identity=record["identity"],
                outputs=outputs_of_record(record),
                cache=Path(record["cache"]),
                devices=record["devices"],
                n_threads=record["n_threads"],
                compile=record["compile"],
            )
            faults = run._contradictions(record)
            if not faults:
                return run
        except (KeyError, TypeError) as error:
            faults = [f"{type(error).__name__} {error}"]
        raise DamagedError(
            f"{str(folder.config)!r} contradicts itself ({', '.join(faults)}): put back a copy, or "
            f"{way_out(folder.config)}."
        )

    def _contradictions(self, record: Mapping[str, Any]) -> list[str]:
        """Return the fields of the run's record that do not follow from the others; its folder may be renamed."""
        computed = self.to_record() | {"run_id": record["run_id"]}
        computed["identity"] = identity_of(self.config, self.identity["data"], self.weights_hash)
        return sorted(name for name, value in _as_read(computed).items() if record[name] != value)

    def to_record(self) -> dict[str, Any]:
        """Return the run as plain values, ready for JSON."""
        return {
            "run_id": self.folder.run_id,
            "config": self.config.as_dict(),
            "identity": dict(self.identity),
            "config_hash": self.config_hash,
            "classes": list(self.outputs),
            "positive": self.outputs.positive,
            "cache": str(self.cache),
            "devices": self.devices,
            "n_threads": self.n_threads,
            "compile": self.compile,
        }

    def __getstate__(self) -> dict[str, Any]:
        # The cached table stays in this process: tasks pass small records, never frames.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def config_hash(self) -> str:
        """SHA-256 of the identity; what was computed under another one is not used."""
        return hashlib.sha256(json.dumps(dict(self.identity), sort_keys=True).encode()).hexdigest()

    @property
    def classes(self) -> Classes:
        """Class names, in output order; for two classes the positive class is last.

        Raises:
            TaskError: the run has several findings per image.
        """
        return require_classes(self.outputs, f"run {self.folder.run_id!r}")

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the file of pretrained weights, or none."""
        return self.identity["weights"]

    def images(self) -> pd.DataFrame:
        """Return the images that are trained on and predicted, by path: the folds' columns and subtype.

        The folds are certified once for each `Run` object, when the table is first asked for.

        Raises:
            FoldError: the folds on disk leak, or were changed.
        """
        return self._certified_images.copy()

    @cached_property
    def _certified_images(self) -> pd.DataFrame:
        folds = read_folds(self.folder, self.config)
        manifest = verified.read_table(self.folder.manifest)
        used = manifest.loc[manifest["status"] == "used", ["path", "subtype"]]
        return folds.merge(used, on="path", how="inner").sort_values("path", ignore_index=True)

    def training_images(self, fold: int) -> pd.DataFrame:
        """Return the images that a fold is trained on: those of the other folds, or of a share of their patients.

        Patients are drawn by class, in an order that the run's seed sets: a smaller share is part of a larger one.
        """
        images = self.images().query("fold != @fold")
        if self.share == 1:
            return images
        groups = images.drop_duplicates("group_id").sample(frac=1, random_state=self.config.seed)
        rank = groups.groupby("label").cumcount()
        size = groups.groupby("label")["label"].transform("size")
        return images[images["group_id"].isin(groups["group_id"][rank < np.ceil(self.share * size)])]

    def image_weights(self, images: pd.DataFrame) -> NDArray[np.float64] | None:
        """Return the weight of each image in the training loss, shape (n,); None if no table of labels has weights."""
        if self.config.weight_column is None:
            return None
        labels = verified.read_table(self.folder.labels)
        return labels.set_index("path")["weight"].loc[images["path"]].to_numpy()

    def fold_folder(self, fold: int) -> FoldFolder:
        """Return where a fold keeps its files."""
        return self.folder.fold(fold) if self.share == 1 else self.folder.fold_of_share(self.share, fold)

    def is_complete(self, fold: int) -> bool:
        """Return whether a fold has been trained to its end under this run's identity.

        Raises:
            DamagedError: its record is missing, or was changed.
        """
        marker = self.fold_folder(fold).complete
        if not verified.exists(marker):
            return False
        done = verified.read_json(marker)
        return (done["config_hash"], done["fold"], done["share"]) == (self.config_hash, fold, self.share)

    def forget_fold(self, fold: int) -> None:
        """Remove a fold's results, its completion marker first, and the tables made from them; it is trained again.

        Raises:
            RunError: another process trains the fold.
        """
        folder = self.fold_folder(fold)
        with files.locked(folder.lock, f"fold {fold} of run {self.folder.run_id}"):
            tables = self.folder.metrics.parent.glob("*.parquet")
            figures = self.folder.figures.glob("*.*")
            derived = (self.folder.report, *self.folder.path.glob("report-*.html"), *tables, *figures)
            own = (folder.checkpoint, folder.predictions, folder.epochs, folder.weights)
            verified.remove(folder.complete, *derived, *own)

    def squares(self, images: pd.DataFrame) -> NDArray[np.uint8]:
        """Return the images' grey squares, shape (n, size, size); those missing from the cache are decoded again.

        Raises:
            DataError: an image to decode is gone, or was changed since the run began.
        """
        prepared = open_prepared(self.cache, self.config.size)
        missing = images[[image_id not in prepared for image_id in images["image_id"]]]
        if not missing.empty:
            log.info("decoding %d images that are not in the cache", len(missing))
            prepared.add(self._decode(missing))
        return prepared.load(images["image_id"].tolist())

    def _decode(self, images: pd.DataFrame) -> dict[str, NDArray[np.uint8]]:
        squares = read_squares(self.config, self.config.size)
        return {i: squares(path, i) for path, i in zip(images["path"], images["image_id"], strict=True)}


def load_run(folder: RunFolder) -> Run:
    """Return the run in `folder`.

    Raises:
        DamagedError: its config is missing, was changed, or contradicts itself.
        FormatError: another version of cxr wrote it.
    """
    return Run.from_record(folder, verified.read_record(folder.config))


def require_complete(run: Run) -> None:
    """Raise RunError unless every fold has been trained to its end."""
    unfinished = [str(fold) for fold in range(run.config.folds) if not run.is_complete(fold)]
    if unfinished:
        run_id = run.folder.run_id
        raise RunError(
            f"run {run_id!r} lacks fold {', '.join(unfinished)}: "
            f"type the run's `cxr train` again, or `cxr train-fold {run_id} {unfinished[0]}`."
        )


def _as_read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as they are after they were written as JSON and read."""
    return json.loads(json.dumps(values))


def identity_of(config: TrainConfig, data_hash: str, weights_hash: str) -> dict[str, Any]:
    """Return what a run is; the hash of the data covers the tables of labels, wherever they lie."""
    fields = {name: value for name, value in config.as_dict().items() if name not in ("labels", "split_list")}
    return _as_read(fields | {"data": data_hash, "weights": weights_hash})
