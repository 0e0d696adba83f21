"""The deployable model: everything that scoring needs, in one folder that is never changed again.

`models/<name>/<version>/` holds the folds' weights (what they share once), calibration and thresholds fitted
on out-of-fold predictions, the images that drift is judged by, a model card, and where all of it comes from.
`SHA256SUMS` names every file; a package of which a byte has changed is refused. Weights are safetensors:
nothing in a package is code.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays

from cxr.classes import Classes
from cxr.config import OperatingPoint, Trainable
from cxr.errors import PackageError
from cxr.metrics.calibration import Calibration, average_folds, predict_labels
from cxr.serving.networks import PackagedNetworks
from cxr.serving.novelty import NOVELTY_PARTS, ImageNovelty, Novelty
from cxr.storage import files
from cxr.storage.files import sha256_of
from cxr.storage.model_folder import PackageFolder

SUM = re.compile(r"^([0-9a-f]{64})  ([\w.-]+)$", re.MULTILINE | re.ASCII)


@dataclass(frozen=True)
class Package:
    """A packaged model, whose files were found unchanged."""

    folder: PackageFolder
    name: str
    classes: Classes
    """In the order of the model's outputs; of two the positive one is last."""
    trainable: Trainable
    size: int
    n_folds: int
    calibration: Calibration
    thresholds: dict[OperatingPoint, float]
    """Of two classes; empty for more."""
    operating_point: OperatingPoint
    facts: dict[str, Any]
    """Everything else in package.json."""

    @property
    def version(self) -> str:
        """Its number among the versions of the model."""
        return self.folder.version

    @property
    def threshold(self) -> float:
        """From this probability of the positive class on an image is called positive; 0.5 for more than two classes."""
        return self.thresholds.get(self.operating_point, 0.5)

    @property
    def identity(self) -> str:
        """The hash of all its files, and the size of its input."""
        return f"{sha256_of(self.folder.checksums)} {self.size}"

    @cached_property
    def networks(self) -> PackagedNetworks:
        """The folds' networks."""
        return PackagedNetworks(self.folder, len(self.classes), self.n_folds, self.trainable, self.identity)

    @property
    def has_int8(self) -> bool:
        """Tell whether its layers are there in 8-bit integers, too."""
        return "int8" in self.facts

    def images(self) -> pd.DataFrame:
        """Return one row per image that the model was made from: image_id, fingerprint, group, fold, label, …"""
        return files.read_table(self.folder.images)

    def novelty(self) -> ImageNovelty:
        """Return the measure of how far an image lies from the training images."""
        arrays = load_arrays(self.folder.novelty)
        parts = [{k.removeprefix(part): v for k, v in arrays.items() if k.startswith(part)} for part in NOVELTY_PARTS]
        return ImageNovelty(*(Novelty(**part) for part in parts))

    def predict(self, logits: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.str_]]:
        """Return probabilities (n, n_classes), the folds' spread (n,), and the class each image is called (n,).

        Args:
            logits: of each fold, shape (n_folds, n, n_classes).
        """
        probability, spread = average_folds(self.calibration, logits)
        return probability, spread, predict_labels(probability, self.classes, self.threshold)


def load_package(folder: PackageFolder) -> Package:
    """Return the package in a folder.

    Raises:
        PackageError: it is not there, was made by a later cxr, or a file was changed, is missing or is one too many.
    """
    if not folder.checksums.exists():
        raise PackageError(f"no model in {str(folder.path)!r}: `cxr models` shows what is there.")
    _require_unchanged(folder)
    facts = files.read_json(folder.description)
    if facts["format"] != files.FORMAT:
        raise PackageError(
            f"{str(folder.path)!r} has package format {facts['format']}, this cxr reads {files.FORMAT}: "
            "package the run again."
        )
    return Package(
        folder=folder,
        name=facts["name"],
        classes=Classes(facts["classes"]),
        trainable=facts["trainable"],
        size=facts["size"],
        n_folds=facts["n_folds"],
        calibration=Calibration(facts["calibration"]["temperature"], tuple(facts["calibration"]["bias"])),
        thresholds=facts["thresholds"],
        operating_point=facts["operating_point"],
        facts=facts,
    )


def _require_unchanged(folder: PackageFolder) -> None:
    sums = folder.checksums.read_bytes().decode("utf-8", errors="replace")
    expected = {name: digest for digest, name in SUM.findall(sums)}
    if "".join(f"{digest}  {name}\n" for name, digest in expected.items()) != sums:
        raise PackageError(
            f"file {folder.checksums.name!r} of package {str(folder.path)!r} was changed: "
            "restore it, or package the run again."
        )
    present = {path.name for path in folder.path.iterdir()} - {folder.checksums.name}
    for name in sorted(expected.keys() | present):
        path = folder.path / name
        if name not in present or name not in expected or sha256_of(path) != expected[name]:
            fault = "is missing" if name not in present else "was added" if name not in expected else "was changed"
            raise PackageError(
                f"file {name!r} of package {str(folder.path)!r} {fault}: restore it, or package the run again."
            )


TOLERATED_DIFFERENCE = 0.01
"""If an image's probability moves by more than this against float32, bfloat16 is refused; of int8 a few images' may."""
