"""What a packaged model says of images: one way for the nightly job, for `cxr explain` and for the page.

An image is read, refused or judged alike wherever it comes from, and its probability is the same to the rounding of
float32: all three run the model in 8-bit integers if it was packaged with them and the processor has them, else in
bfloat16 if that moves no probability by more than 0.01, which was measured when the model was packaged, and otherwise
in float32.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.config import Arithmetic, Compile, ScorePrecision
from cxr.errors import ConfigError
from cxr.images.vitals import are_same_image, fingerprint_bits
from cxr.network.devices import resolve_device, uses_bf16
from cxr.network.grad_cam import grad_cam
from cxr.network.int8 import int8_hindrance
from cxr.network.resnet import Classifier
from cxr.serving.ensemble import Ensemble
from cxr.serving.package import TOLERATED_DIFFERENCE, Package
from cxr.serving.screening import FileReading

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What the model says of an image."""

    probability: dict[str, float]
    """Calibrated, the mean over folds, by class."""
    by_fold: dict[str, list[float]]
    """Calibrated, of each fold, by class."""
    predicted: str
    """The class, at the package's own operating point."""
    fold_spread: float
    """Between the highest and the lowest fold, for the class in which it is largest."""
    in_training: bool
    """The model was made from this image: the same bytes, or the same image re-encoded."""
    novelty: float
    """How far the image lies from the training images."""

    @property
    def columns(self) -> dict[str, object]:
        """The prediction under the names of the scores' columns."""
        return {
            **{f"probability_{name}": value for name, value in self.probability.items()},
            "predicted_label": self.predicted,
            "fold_spread": self.fold_spread,
            "in_training": self.in_training,
            "novelty": self.novelty,
        }


class Predictor:
    """A packaged model, loaded; judge images with it in one thread at a time.

    Args:
        package: the model.
        device: auto, cpu, or cuda:<index>.
        precision: auto, fp32, bf16, or int8.
        compile: auto, on, or off.
        cache: keeps compiled graphs.
        n_images: how many images are to come; what compiling has to be repaid by.

    Raises:
        DeviceError: the device is not there.
    """

    def __init__(
        self,
        package: Package,
        *,
        device: str = "auto",
        precision: ScorePrecision = "auto",
        compile: Compile = "auto",
        cache: Path = Path("cache"),
        n_images: int = 0,
    ) -> None:
        self.package, self.device = package, resolve_device(device)
        self._precision: ScorePrecision = precision
        self._compile: Compile = compile
        self._cache, self._n_images = cache, n_images
        self._novelty = package.novelty()
        images = package.images()
        self._training_ids = set(images["image_id"])
        self._training_prints = fingerprint_bits(images["fingerprint"].tolist())

    def predict(self, readings: Sequence[FileReading]) -> list[Prediction]:
        """Return what the model says of each of the images; none of them may have been refused.

        Raises:
            ConfigError: 8-bit integers are asked for and cannot be had, or bfloat16 is and moves a probability by more
                than 0.01.
        """
        if not readings:
            return []
        squares = np.stack([r.square for r in readings if r.square is not None])
        logits, features = self.ensemble.run(squares)
        by_fold = self.package.calibration.probability(logits)
        probability, spread, predicted = self.package.predict(logits)
        novelty, in_training = self._novelty.distance(features, squares), self._are_in_training(readings)
        classes = self.package.classes
        return [
            Prediction(
                dict(zip(classes, probability[k].tolist(), strict=True)),
                {name: by_fold[:, k, j].tolist() for j, name in enumerate(classes)},
                str(predicted[k]),
                float(spread[k]),
                in_training[k],
                float(novelty[k]),
            )
            for k in range(len(readings))
        ]

    @cached_property
    def networks(self) -> list[Classifier]:
        """The folds' networks in float32, which Grad-CAM looks into."""
        return [self.package.networks.model(fold).to(self.device) for fold in range(self.package.n_folds)]

    def look(self, readings: Sequence[FileReading], targets: Sequence[str]) -> NDArray[np.float32]:
        """Return where the networks see a class in images, shape (n, size, size); see `explain.grad_cam`."""
        squares = np.stack([r.square for r in readings if r.square is not None])
        asked_for = np.array([self.package.classes.index(name) for name in targets], dtype=np.int64)
        return grad_cam(self.networks, squares, asked_for)

    def _are_in_training(self, readings: Sequence[FileReading]) -> list[bool]:
        bits = fingerprint_bits([reading.fingerprint or "" for reading in readings])
        alike = are_same_image(bits, self._training_prints).tolist()
        return [
            reading.image_id in self._training_ids or is_alike
            for reading, is_alike in zip(readings, alike, strict=True)
        ]

    @cached_property
    def ensemble(self) -> Ensemble:
        """The model, in the fastest arithmetic that is allowed; errors as for `judge`."""
        arithmetic: Arithmetic = "int8" if self._takes_int8() else "bf16" if self._may_round() else "fp32"
        return Ensemble(
            self.package.networks,
            device=self.device,
            arithmetic=arithmetic,
            n_images=self._n_images,
            compile=self._compile,
            cache=self._cache,
        )

    def _takes_int8(self) -> bool:
        if self._precision not in ("auto", "int8"):
            return False
        packaged = self.package.has_int8
        hindrance = int8_hindrance(self.device) if packaged else "it was packaged without --int8"
        if hindrance and self._precision == "int8":
            raise ConfigError(f"--precision int8 cannot be had of {self.package.name}: {hindrance}.")
        if hindrance and packaged:
            log.warning("the 8-bit integers of %s are not used: %s", self.package.name, hindrance)
        return not hindrance

    def _may_round(self) -> bool:
        if not uses_bf16(self._precision, self.device):
            return False
        moved, allowed = self.package.facts["bfloat16"]["largest_probability_difference"], TOLERATED_DIFFERENCE
        if moved <= allowed:
            return True
        told = f"bfloat16 moves a probability of {self.package.name} by {moved:.3f}, at most {allowed} is allowed"
        if self._precision == "bf16":
            raise ConfigError(f"{told}: give --precision fp32, or auto, which chooses it.")
        log.warning("%s; float32 is used, which is slower", told)
        return False
