"""What a packaged model predicts for images, for `cxr score`, `cxr explain` and the page alike.

All three read an image in the same way, refuse it for the same reasons, and give it the same probability up to the
rounding of float32. A package with 8-bit integers scores in these alone, because its calibration and its thresholds are
theirs. Others score in bfloat16, if that moved no probability by more than 0.01 when the package was built, else in
float32.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr.classes import NO_FINDING, REFER, SEPARATOR, Findings
from cxr.config import Arithmetic, Compile, ScorePrecision
from cxr.errors import ConfigError
from cxr.images.vitals import are_same_image, fingerprint_bits
from cxr.network.devices import resolve_device, uses_bf16
from cxr.network.heat_map import heat_maps
from cxr.network.int8 import int8_hindrance
from cxr.network.resnet import Classifier
from cxr.serving.ensemble import Ensemble
from cxr.serving.package import TOLERATED_DIFFERENCE, Package
from cxr.serving.screening import FileReading

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What the model predicts for an image."""

    probability: dict[str, float]
    """By class or finding: calibrated, the mean over folds."""
    by_fold: dict[str, list[float]]
    """By class or finding: the calibrated probability from each fold."""
    predicted: str
    """The predicted class, at the package's operating point; of several findings, those that are predicted."""
    fold_spread: float
    """Highest minus lowest fold, for the class where this is largest."""
    in_training: bool
    """Whether the model was made from this image: the same bytes, or the same image re-encoded."""
    novelty: float
    """How far the image lies from the training images."""
    unlike_training: bool | None
    """Whether that is beyond the package's limit; None if the package has none."""
    arithmetic: Arithmetic
    """What the networks computed in."""
    called: dict[str, bool] | None = None
    """By finding: whether it is predicted; None for classes."""
    fitting: tuple[str, ...] | None = None
    """The classes that fit the image; None if the package refers no image."""

    @property
    def answer(self) -> str | None:
        """The class that fits the image, or `refer` if none does or several do; None if the package refers none."""
        if self.fitting is None:
            return None
        return self.fitting[0] if len(self.fitting) == 1 else REFER

    @property
    def columns(self) -> dict[str, object]:
        """The prediction under the column names of the scores."""
        if self.called is None:
            decided: dict[str, object] = {"predicted_label": self.predicted}
        else:
            decided = dict(zip(Findings(self.called).called_columns, self.called.values(), strict=True))
        return {
            **{f"probability_{name}": value for name, value in self.probability.items()},
            **decided,
            "fold_spread": self.fold_spread,
            "in_training": self.in_training,
            "novelty": self.novelty,
            "unlike_training": self.unlike_training,
            "arithmetic": self.arithmetic,
            "answer": self.answer,
            "prediction_set": None if self.fitting is None else SEPARATOR.join(self.fitting),
        }

    def of(self, finding: str) -> "Prediction":
        """Return what is predicted of one of several findings, as two classes: its absence, and the finding."""
        absent, present = Findings(self.probability).against_absence(finding)
        probability = self.probability[finding]
        by_fold = self.by_fold[finding]
        return replace(
            self,
            probability={absent: 1 - probability, present: probability},
            by_fold={absent: [1 - value for value in by_fold], present: by_fold},
            predicted=present if self.called and self.called[finding] else absent,
            fold_spread=max(by_fold) - min(by_fold),
            called=None,
        )


class Predictor:
    """A packaged model, loaded. Use it in one thread at a time.

    Args:
        package: the model.
        device: auto (the CPU for 8-bit integers), cpu, or cuda:<index>.
        precision: auto, fp32, bf16, or int8.
        compile: auto, on, or off.
        cache: keeps compiled graphs.
        n_images: number of images expected, to decide whether compiling pays off.

    Raises:
        DeviceError: the device does not exist.
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
        self.package = package
        self.device = "cpu" if package.has_int8 and device == "auto" else resolve_device(device)
        self._precision: ScorePrecision = precision
        self._compile: Compile = compile
        self._cache = cache
        self._n_images = n_images
        self._novelty = package.novelty()
        images = package.images()
        self._training_ids = set(images["image_id"])
        self._training_prints = fingerprint_bits(images["fingerprint"].tolist())

    def predict(self, readings: Sequence[FileReading]) -> list[Prediction]:
        """Return a prediction for each image; none of the readings may have been refused.

        Raises:
            ConfigError: the package scores in 8-bit integers, and this machine cannot or another arithmetic is
                requested; or they are requested of another package; or bfloat16 is, and moves a probability by more
                than 0.01.
        """
        if not readings:
            return []
        squares = _squares(readings)
        logits, features = self.ensemble.run(squares)
        by_fold = self.package.calibration.probability(logits)
        probability, spread, predicted, called = self._decide(logits)
        novelty = self._novelty.distance(features, squares)
        limit = self.package.novelty_limit
        in_training = self._are_in_training(readings)
        fitting = self._fitting(probability)
        return [
            Prediction(
                probability=dict(zip(self.package.outputs, probability[k].tolist(), strict=True)),
                by_fold={name: by_fold[:, k, column].tolist() for column, name in enumerate(self.package.outputs)},
                predicted=predicted[k],
                fold_spread=float(spread[k]),
                in_training=in_training[k],
                novelty=float(novelty[k]),
                called=called[k],
                unlike_training=None if limit is None else bool(novelty[k] > limit),
                arithmetic=self._arithmetic,
                fitting=fitting[k],
            )
            for k in range(len(readings))
        ]

    def _fitting(self, probability: NDArray[np.float64]) -> Sequence[tuple[str, ...] | None]:
        """Return the classes that fit each image."""
        referral = self.package.referral
        if referral is None:
            return [None] * len(probability)
        names = np.asarray(self.package.outputs, dtype=object)
        return [tuple(names[fits]) for fits in referral.fits(probability)]

    def _decide(
        self, logits: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str], Sequence[dict[str, bool] | None]]:
        """Return probabilities, spread between the folds, and what is predicted: as a text, and for each finding."""
        outputs = self.package.outputs
        if not isinstance(outputs, Findings):
            probability, spread, label = self.package.predict(logits)
            return probability, spread, list(map(str, label)), [None] * len(label)
        probability, spread, is_called = self.package.call(logits)
        called = [dict(zip(outputs, row, strict=True)) for row in is_called.tolist()]
        named = [SEPARATOR.join(name for name, is_present in row.items() if is_present) for row in called]
        return probability, spread, [text or NO_FINDING for text in named], called

    @cached_property
    def networks(self) -> list[Classifier]:
        """The folds' networks in float32, for the maps of where they look; also of a package with 8-bit integers."""
        return [self.package.networks.model(fold).to(self.device) for fold in range(self.package.n_folds)]

    def look(self, readings: Sequence[FileReading], targets: Sequence[str]) -> NDArray[np.float32]:
        """Return where the networks see a class in images, shape (n, size, size); see `heat_maps`.

        Args:
            readings: images, none of them refused.
            targets: the class or finding to look for in each image.
        """
        columns = np.array([self.package.outputs.index(name) for name in targets], dtype=np.int64)
        return heat_maps(self.networks, _squares(readings), columns, self.package.outputs.link)

    def _are_in_training(self, readings: Sequence[FileReading]) -> list[bool]:
        bits = fingerprint_bits([reading.fingerprint or "" for reading in readings])
        alike = are_same_image(bits, self._training_prints).tolist()
        return [
            reading.image_id in self._training_ids or is_alike
            for reading, is_alike in zip(readings, alike, strict=True)
        ]

    @cached_property
    def ensemble(self) -> Ensemble:
        """The model, ready to run; raises as `predict` does."""
        return Ensemble(
            self.package.networks,
            device=self.device,
            arithmetic=self._arithmetic,
            n_images=self._n_images,
            compile=self._compile,
            cache=self._cache,
        )

    @cached_property
    def _arithmetic(self) -> Arithmetic:
        if self.package.has_int8 or self._precision == "int8":
            self._require_int8()
            return "int8"
        return "bf16" if self._uses_bf16() else "fp32"

    def _require_int8(self) -> None:
        name = f"{self.package.name} version {self.package.version}"
        if not self.package.has_int8:
            raise ConfigError(f"--precision int8 is not available for {name}: it was packaged without --int8.")
        if self._precision not in ("auto", "int8"):
            raise ConfigError(
                f"--precision {self._precision} is not available for {name}: it was packaged with --int8, and its "
                "thresholds are those of 8-bit integers; package the run without --int8 for another arithmetic."
            )
        if "judged" not in self.package.facts["int8"]:
            raise ConfigError(
                f"{name} has 8-bit integers with the thresholds of float32, from before they had their own: package "
                "the run again."
            )
        if hindrance := int8_hindrance(self.device):
            raise ConfigError(
                f"{name} scores in 8-bit integers, but {hindrance}; package the run without --int8 to score it here."
            )

    def _uses_bf16(self) -> bool:
        package = self.package
        if not uses_bf16(self._precision, self.device):
            return False
        if package.allows_bf16:
            return True
        refusal = (
            f"bfloat16 moves a probability of {package.name} by {package.bf16_difference:.4f}, "
            f"at most {TOLERATED_DIFFERENCE} is allowed"
        )
        if self._precision == "bf16":
            raise ConfigError(f"{refusal}: give --precision fp32, or auto, which chooses it.")
        log.warning("%s; float32 is used, which is slower", refusal)
        return False


def _squares(readings: Sequence[FileReading]) -> NDArray[np.uint8]:
    return np.stack([reading.square for reading in readings if reading.square is not None])
