"""Images that a network tells apart at sight, so that rounding it to 8-bit integers changes no order of theirs."""

from pathlib import Path

import numpy as np
from PIL import Image

from cxr.config import TrainConfig


def draw_bright_and_dark(place: Path, seed: int, *, dark_are: str = "NORMAL", subtype: str = "virus") -> None:
    """Draw 20 dark images of a class and of the subtype, and 20 bright ones of the class PNEUMONIA and virus."""
    generator = np.random.default_rng(seed)
    for k in range(40):
        of_class, of_subtype, darkest = ((dark_are, subtype, 20), ("PNEUMONIA", "virus", 150))[k % 2]
        image = place / of_class / f"person{k}_{of_subtype}_{k}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(darkest, darkest + 90, (48, 48), dtype=np.uint8)).save(image)


def bright_config(data: Path, weights_file: str) -> TrainConfig:
    """Return the config of a run with a frozen trunk that learns to tell such images apart."""
    return TrainConfig(
        data=str(data),
        weights=weights_file,
        trainable="head",
        size=32,
        folds=2,
        epochs=20,
        batch_size=8,
        learning_rate=3e-3,
    )
