"""How far an image lies from the images that a model was trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save as save_arrays

from cxr.storage import files

N_COMPONENTS = 32


LAYOUT_PX = 16


ROUNDING = 1e-3


@dataclass(frozen=True)
class Novelty:
    """How far an image's features lie from those of the training images, in units of their spread."""

    mean: NDArray[np.float32]
    """Shape (n_features,)."""
    components: NDArray[np.float32]
    """Principal components of the training images' features, shape (k, n_features)."""
    scale: NDArray[np.float32]
    """Standard deviation along each component, and of the residual's length: shape (k + 1,)."""

    def distance(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return each image's distance, shape (n,), for features (n, n_features)."""
        centred = features - self.mean
        along = centred @ self.components.T
        residual = np.linalg.norm(centred - along @ self.components, axis=1, keepdims=True)
        return np.sqrt((np.hstack([along, residual]) / self.scale) ** 2 @ np.ones(len(self.scale))).astype(np.float64)


def fit_novelty(features: NDArray[np.float32]) -> Novelty:
    """Return the measure fitted on the features of training images, shape (n, n_features)."""
    mean = features.mean(axis=0)
    _, singular, components = np.linalg.svd(features - mean, full_matrices=False)
    components = components[: min(N_COMPONENTS, int((singular > 1e-6 * singular[0]).sum()))]
    centred = features - mean
    along = centred @ components.T
    residual = np.linalg.norm(centred - along @ components, axis=1)
    spread = along.std(axis=0)
    rest = max(np.sqrt((residual**2).mean()), ROUNDING * spread.max(initial=0))  # where nothing is left over
    return Novelty(mean, components, np.maximum(np.append(spread, rest), 1e-12).astype(np.float32))


def layout(squares: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return where images are bright and dark, shape (n, 256), each contrast-normalised, for squares (n, size, size)."""
    coarse = [
        np.asarray(Image.fromarray(square).resize((LAYOUT_PX, LAYOUT_PX), Image.Resampling.BOX)) for square in squares
    ]
    flat = np.reshape(coarse, (len(squares), LAYOUT_PX**2)).astype(np.float32)
    centred = flat - flat.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1.0)


NOVELTY_PARTS = ("network.", "layout.")


@dataclass(frozen=True)
class ImageNovelty:
    """How far images lie from the training images: in what the network makes of them, and in where they are bright."""

    network: Novelty
    layout: Novelty

    def distance(self, features: NDArray[np.float32], squares: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return each image's distance, shape (n,), for features (n, n_features) and squares (n, size, size)."""
        return np.hypot(self.network.distance(features), self.layout.distance(layout(squares)))

    def save(self, path: Path) -> None:
        """Write what `Package.novelty` reads."""
        parts = zip(NOVELTY_PARTS, (self.network, self.layout), strict=True)
        arrays = {part + name: np.ascontiguousarray(v) for part, measure in parts for name, v in vars(measure).items()}
        with files.replacing(path) as temporary:
            temporary.write_bytes(save_arrays(arrays))
