"""How far an image lies from the images that a model was trained on.

Two measures, combined as the two sides of a right angle: in the features that the network computes, and in a coarse map
of where the image is bright. Each is a Mahalanobis distance along the principal components of the training images, plus
what no component explains.

An image beyond the limit is unlike the training images: another view, another part of the body, no radiograph at all.
The limit is set when a model is packaged, on images that were held out, and nothing is tuned to strangers.

Source: Lee et al., A simple unified framework for detecting out-of-distribution samples, NeurIPS 2018; the residual:
Ndiour et al., Out-of-distribution detection with subspace techniques, 2020; the limit: Wilks, Determination of sample
sizes for setting tolerance limits, Ann Math Stat 1941; Hahn and Meeker, Statistical Intervals, 1991.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save

from cxr.storage import files

N_COMPONENTS = 32
"""Principal components that are kept, at most."""
BRIGHTNESS_MAP_PX = 16
"""Side of the brightness map, in cells."""
ROUNDING = 1e-3
"""A residual smaller than this share of the largest component's spread is rounding error."""
UNLIKE_SHARE = 0.01
"""At most this share of images like those held out lies beyond the limit, ..."""
CONFIDENCE = 0.95
"""... with this confidence."""
NETWORK_PREFIX = "network."
BRIGHTNESS_PREFIX = "layout."
"""What the names of the brightness measure's arrays begin with in `novelty.safetensors`."""


@dataclass(frozen=True)
class Novelty:
    """How far an image's features lie from those of the training images, in units of their spread."""

    mean: NDArray[np.float32]
    """Shape (n_features,)."""
    components: NDArray[np.float32]
    """Principal components of the training images' features, shape (k, n_features)."""
    scale: NDArray[np.float32]
    """Standard deviation along each component, and of the residual's length, shape (k + 1,)."""

    def distance(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return each image's distance, shape (n,), for features (n, n_features)."""
        centred = features - self.mean
        along = centred @ self.components.T
        residual = np.linalg.norm(centred - along @ self.components, axis=1, keepdims=True)
        squares = (np.hstack([along, residual]) / self.scale) ** 2
        # summed in float64 by a matrix product: np.linalg.norm sums in float32 and gives other last digits
        return np.sqrt(squares @ np.ones(len(self.scale))).astype(np.float64)


def fit_novelty(features: NDArray[np.float32]) -> Novelty:
    """Return the measure fitted on the features of training images, shape (n, n_features)."""
    mean = features.mean(axis=0)
    _, singular, components = np.linalg.svd(features - mean, full_matrices=False)
    components = components[: min(N_COMPONENTS, int((singular > 1e-6 * singular[0]).sum()))]
    centred = features - mean
    along = centred @ components.T
    residual = np.linalg.norm(centred - along @ components, axis=1)
    spread = along.std(axis=0)
    residual_spread = max(np.sqrt((residual**2).mean()), ROUNDING * spread.max(initial=0))
    scale = np.maximum(np.append(spread, residual_spread), 1e-12).astype(np.float32)
    return Novelty(mean, components, scale)


def brightness_map(squares: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return where images are bright and dark, each image contrast-normalised, shape (n, 256).

    Args:
        squares: shape (n, size, size).
    """
    cells = (BRIGHTNESS_MAP_PX, BRIGHTNESS_MAP_PX)
    coarse = [np.asarray(Image.fromarray(square).resize(cells, Image.Resampling.BOX)) for square in squares]
    flat = np.reshape(coarse, (len(squares), BRIGHTNESS_MAP_PX**2)).astype(np.float32)
    centred = flat - flat.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1.0)


@dataclass(frozen=True)
class ImageNovelty:
    """How far images lie from the training images, in the network's features and in where they are bright."""

    network: Novelty
    brightness: Novelty

    def distance(self, features: NDArray[np.float32], squares: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return each image's distance, shape (n,).

        Args:
            features: of fold 0's network, shape (n, n_features).
            squares: shape (n, size, size).
        """
        return np.hypot(self.network.distance(features), self.brightness.distance(brightness_map(squares)))

    def save(self, path: Path) -> None:
        """Write the measure as safetensors, for `load`."""
        arrays = _named(NETWORK_PREFIX, self.network) | _named(BRIGHTNESS_PREFIX, self.brightness)
        with files.replacing(path) as temporary:
            temporary.write_bytes(save(arrays))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the measure that `save` wrote."""
        arrays = load_file(path)
        return cls(_measure(NETWORK_PREFIX, arrays), _measure(BRIGHTNESS_PREFIX, arrays))


def novelty_limit(distance: NDArray[np.float64]) -> float | None:
    """Return the distance beyond which an image is unlike the training images; None from fewer than two distances.

    With a confidence of 95%, at most 1% of images like these lie beyond it (an upper tolerance limit). Of 299
    distances or more, it is one of them, whatever their distribution. Fewer say nothing about 1% by themselves: the
    limit is then that of a normal distribution of their logarithms, or the largest distance if that is more. Measured,
    more than 1% exceed it more often than in 5% of cases (docs/decisions/strangers-are-flagged.md).

    Args:
        distance: of images that the network was not trained on, shape (n,).
    """
    from scipy import stats  # loads for a while, and scoring does not need it

    n = len(distance)
    if n < 2:
        return None
    rank = int(stats.binom.ppf(CONFIDENCE, n, 1 - UNLIKE_SHARE)) + 1
    if rank <= n:
        return float(np.sort(distance)[rank - 1])
    logs = np.log(np.maximum(distance, np.finfo(np.float64).tiny))
    deviations = stats.nct.ppf(CONFIDENCE, n - 1, np.sqrt(n) * stats.norm.ppf(1 - UNLIKE_SHARE)) / np.sqrt(n)
    return float(max(np.exp(logs.mean() + deviations * logs.std(ddof=1)), distance.max()))


def _named(prefix: str, measure: Novelty) -> dict[str, NDArray[np.float32]]:
    return {prefix + name: np.ascontiguousarray(array) for name, array in vars(measure).items()}


def _measure(prefix: str, arrays: dict[str, NDArray[np.float32]]) -> Novelty:
    return Novelty(**{name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)})
