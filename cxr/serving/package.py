"""A packaged model: everything that scoring needs, in one folder that never changes once it is written.

`models/<name>/<version>/` holds the folds' weights (shared tensors once), the calibration and thresholds fitted on
out-of-fold predictions, the reference images for drift, a model card, and the provenance of all of it. `SHA256SUMS`
names every file; a package with a single changed byte is refused. Weights are safetensors: a package contains no code.

A package carries the name and version that it was made with, and its folder has to have the same. Scores are kept by
name and version: a package that could be loaded under a second name would score every image a second time.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Classes, Findings, for_one_label, outputs_of_record, require_classes
from cxr.config import ADDED, LeaveOut, OperatingPoint
from cxr.errors import PackageError
from cxr.metrics.calibration import ABOVE_ONE, Calibration, CalibrationOfFindings, average_folds, predict_labels
from cxr.metrics.conformal import Referral
from cxr.recipe import Trainable
from cxr.serving.novelty import ImageNovelty
from cxr.storage import files, verified
from cxr.storage.files import sha256_of
from cxr.storage.model_folder import PackageFolder

if TYPE_CHECKING:
    from cxr.serving.networks import PackagedNetworks

TOLERATED_DIFFERENCE = 0.01
"""Largest difference from float32 that coarser arithmetic may make to a probability.

bfloat16 has to keep to it on every image that was measured, 8-bit integers on nearly all of them.
"""


@dataclass(frozen=True)
class Package:
    """A packaged model whose files are verified to be unchanged."""

    folder: PackageFolder
    name: str
    outputs: Classes | Findings
    """What the networks' outputs mean, in their order; for two classes the positive class is last."""
    trainable: Trainable
    size: int
    """Side of the input square, in pixels."""
    n_folds: int
    calibration: Calibration | CalibrationOfFindings
    thresholds: dict[OperatingPoint, float]
    """By operating point; empty for more than two classes, and for findings."""
    operating_point: OperatingPoint
    facts: dict[str, Any]
    """The whole of package.json."""
    thresholds_of: dict[str, dict[OperatingPoint, float]] = field(default_factory=dict)
    """By finding and operating point; empty for classes."""

    @property
    def classes(self) -> Classes:
        """The classes.

        Raises:
            TaskError: the model predicts several findings per image.
        """
        return require_classes(self.outputs, f"model {self.name!r}")

    @property
    def class_calibration(self) -> Calibration:
        """The calibration of the classes.

        Raises:
            TaskError: the model predicts several findings per image.
        """
        if isinstance(self.calibration, CalibrationOfFindings):
            raise for_one_label(f"model {self.name!r}")
        return self.calibration

    def of(self, finding: str) -> "Package":
        """Return this model for one of its findings, as two classes: its absence, and the finding.

        Only what is decided on probabilities is of the finding alone; the networks are those of all.
        """
        if not (isinstance(self.outputs, Findings) and isinstance(self.calibration, CalibrationOfFindings)):
            return self
        return replace(
            self,
            outputs=self.outputs.against_absence(finding),
            calibration=self.calibration.by_finding[self.outputs.index(finding)],
            thresholds=self.thresholds_of[finding],
            thresholds_of={},
        )

    @property
    def limits(self) -> NDArray[np.float64]:
        """The probability from which each finding is predicted, shape (n_findings,)."""
        return np.array([self.thresholds_of[name][self.operating_point] for name in self.outputs])

    @property
    def version(self) -> str:
        """Its number among the versions of the model."""
        return self.folder.version

    @property
    def file_hash(self) -> str:
        """The hash of all its files."""
        return sha256_of(self.folder.checksums)

    @property
    def threshold(self) -> float:
        """Images with this probability of the positive class or more are positive; 0.5 for more than two classes."""
        return self.thresholds.get(self.operating_point, 0.5)

    @property
    def identity(self) -> str:
        """The hash of all its files, and its input size."""
        return f"{self.file_hash} {self.size}"

    @cached_property
    def networks(self) -> "PackagedNetworks":
        """The folds' networks."""
        from cxr.serving.networks import PackagedNetworks  # and torch, a second that nothing else here needs

        return PackagedNetworks(self.folder, len(self.outputs), self.n_folds, self.trainable, self.identity)

    @property
    def leave_out(self) -> LeaveOut:
        """What each fold of its run left out."""
        return self.facts["config"].get("leave_out", ADDED["leave_out"])

    @property
    def has_int8(self) -> bool:
        """Whether it also contains its layers in 8-bit integers."""
        return "int8" in self.facts

    @property
    def bf16_difference(self) -> float:
        """The largest difference from float32 that bfloat16 made to a probability when the package was built."""
        return self.facts["bfloat16"]["largest_probability_difference"]

    @property
    def allows_bf16(self) -> bool:
        """Whether bfloat16 is exact enough for this model."""
        return self.bf16_difference <= TOLERATED_DIFFERENCE

    @property
    def novelty_limit(self) -> float | None:
        """Images of a larger novelty are unlike the training images; None in packages made before there was a limit."""
        return self.facts.get("novelty", {}).get("limit")

    @property
    def referral(self) -> Referral | None:
        """What decides which classes fit an image; None if the model predicts a class for every image."""
        facts = self.facts.get("refer")
        return facts and Referral(facts["level"], tuple(facts["thresholds"][name] for name in self.outputs))

    def images(self) -> pd.DataFrame:
        """Return one row per image that the model was made from: image_id, fingerprint, group, fold, label, …"""
        return verified.read_table(self.folder.images)

    def novelty(self) -> ImageNovelty:
        """Return the measure of how far an image lies from the training images."""
        with verified.local_copy(self.folder.novelty) as file:
            return ImageNovelty.load(file)

    def predict(self, logits: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.str_]]:
        """Return probabilities (n, n_classes), the spread between the folds (n,), and predicted classes (n,).

        Args:
            logits: of each fold, shape (n_folds, n, n_classes).

        Raises:
            PackageError: a probability is no number.
            TaskError: the model predicts several findings per image.
        """
        probability, spread = self._average(logits)
        return probability, spread, predict_labels(probability, self.classes, self.threshold)

    def call(self, logits: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Return probabilities (n, n_findings), the spread between the folds (n,), and which findings are predicted.

        Args and errors: as for `predict`, of a model that predicts several findings per image.
        """
        probability, spread = self._average(logits)
        return probability, spread, probability >= self.limits

    def _average(self, logits: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if not np.isfinite(logits).all():
            raise PackageError(
                f"{self.name} version {self.version} gives probabilities that are no numbers: the weights in "
                f"{str(self.folder.path)!r} are damaged; promote another version, or package the run again."
            )
        return average_folds(self.calibration, logits)


def load_package(folder: PackageFolder) -> Package:
    """Return the package in a folder.

    Raises:
        PackageError: there is none, another version of cxr made it, a file was changed, added or removed, or its
            folder has another name or version than it was made with.
    """
    if not folder.checksums.exists():
        raise PackageError(f"no model in {str(folder.path)!r}: `cxr models` lists the models.")
    _require_unchanged(folder)
    facts = files.read_json(folder.description)
    if facts.get("format") not in files.READ_FORMATS:
        raise PackageError(
            f"{str(folder.path)!r} has package format {facts.get('format')}, this cxr reads "
            f"{' and '.join(map(str, files.READ_FORMATS))}: package the run again."
        )
    try:
        require_own_name(folder, facts)
        package = _package_of(folder, facts)
        fault = _nonsense(package)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        package = None
        fault = f"{type(error).__name__} {error}"
    if package is None or fault:
        raise PackageError(f"{str(folder.description)!r} makes no sense ({fault}): package the run again.")
    return package


def _package_of(folder: PackageFolder, facts: dict[str, Any]) -> Package:
    outputs = outputs_of_record(facts)
    if isinstance(outputs, Findings):
        of_each = [facts["calibration"]["by_finding"][name] for name in outputs]
        calibration = CalibrationOfFindings(tuple(map(_calibration, of_each)))
        by_finding = zip(outputs, calibration.by_finding, strict=True)
        thresholds_of = {name: _thresholds(facts["thresholds"][name], own) for name, own in by_finding}
        thresholds = {}
    else:
        calibration = _calibration(facts["calibration"])
        thresholds_of = {}
        thresholds = _thresholds(facts["thresholds"], calibration) if outputs.is_binary else {}
    return Package(
        folder=folder,
        name=facts["name"],
        outputs=outputs,
        trainable=facts["trainable"],
        size=facts["size"],
        n_folds=facts["n_folds"],
        calibration=calibration,
        thresholds=thresholds,
        operating_point=facts["operating_point"],
        facts=facts,
        thresholds_of=thresholds_of,
    )


def _calibration(facts: Mapping[str, Any]) -> Calibration:
    return Calibration(facts["temperature"], tuple(facts["bias"]))


def _thresholds(facts: Mapping[str, Any], calibration: Calibration) -> dict[OperatingPoint, float]:
    """Return the threshold of each operating point; packages of before lack `balanced`, which the calibration gives."""
    known = dict(facts)
    if "balanced" not in known:
        known["balanced"] = calibration.balanced
    return {point: known[point] for point in get_args(OperatingPoint)}


def _nonsense(package: Package) -> str | None:
    """Return which value of a package is out of its range; None if none is."""
    outputs = package.outputs
    has_findings = isinstance(outputs, Findings)
    n_biases = 2 if has_findings else len(outputs)
    whole = package.calibration
    calibrations = whole.by_finding if isinstance(whole, CalibrationOfFindings) else (whole,)
    thresholds = [
        value for of_each in (package.thresholds, *package.thresholds_of.values()) for value in of_each.values()
    ]
    is_sensible = {
        "classes": len(outputs) >= (1 if has_findings else 2) and len(set(outputs)) == len(outputs),
        "trainable": package.trainable in get_args(Trainable),
        "size": isinstance(package.size, int) and package.size > 0,
        "n_folds": isinstance(package.n_folds, int) and package.n_folds >= 2,
        "temperature": all(0 < each.temperature < math.inf for each in calibrations),
        "bias": all(len(each.bias) == n_biases and all(map(math.isfinite, each.bias)) for each in calibrations),
        "thresholds": all(0 <= value <= ABOVE_ONE for value in thresholds),
        "operating_point": package.operating_point in get_args(OperatingPoint),
        "bfloat16": package.bf16_difference >= 0,
        "refer": package.referral is None or _is_sensible(package.referral),
        "novelty": package.novelty_limit is None or 0 < package.novelty_limit < math.inf,
    }
    return next((f"{name} is out of range" for name, is_met in is_sensible.items() if not is_met), None)


def _is_sensible(referral: Referral) -> bool:
    return 0 < referral.level < 1 and all(0 <= value <= 1 for value in referral.thresholds)


def require_own_name(folder: PackageFolder, facts: Mapping[str, Any]) -> None:
    """Raise PackageError if a package's folder was copied or renamed to another name or version than its own.

    Args:
        folder: of the package.
        facts: its package.json.
    """
    name, version = facts["name"], facts["version"]
    if (folder.path.parent.name, folder.version) != (name, version):
        raise PackageError(
            f"the package in {str(folder.path)!r} is version {version} of {name!r}, and keeps that name: move its "
            f"folder back to {name}/{version}, or package its run again "
            f"(`cxr package {facts['run_id']} --name {folder.path.parent.name}`)."
        )


def _require_unchanged(folder: PackageFolder) -> None:
    expected = verified.recorded(folder.path)
    if verified.as_text(expected) != folder.checksums.read_bytes().decode(errors="replace"):
        raise _damaged(folder, folder.checksums.name, "was changed")
    present = {path.name for path in folder.path.iterdir()} - {folder.checksums.name}
    for name in sorted(expected.keys() | present):
        if name not in present:
            raise _damaged(folder, name, "is missing")
        if name not in expected:
            raise _damaged(folder, name, "was added")
        try:
            digest = sha256_of(folder.path / name)
        except OSError as error:
            raise _damaged(folder, name, f"cannot be read ({error.strerror})") from error
        if digest not in expected[name]:
            raise _damaged(folder, name, "was changed")


def _damaged(folder: PackageFolder, name: str, fault: str) -> PackageError:
    return PackageError(f"file {name!r} of package {str(folder.path)!r} {fault}: restore it, or package the run again.")
