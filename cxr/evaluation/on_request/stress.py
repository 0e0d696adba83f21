"""Stress test: how a run holds up on images that are worse than those it was trained on.

Held-out images are blurred, made noisy or flat, compressed or rotated, as by a poor device or a careless export. They
are changed at the size they are decoded at, before they become squares, and predicted by the fold that never saw them.
Differences are paired: each replicate of the bootstrap draws the same patients at every strength.

Source: Hendrycks & Dietterich, Benchmarking neural network robustness to common corruptions, ICLR 2019.
"""

import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cxr.classes import Classes, Findings
from cxr.dataset.pictures import read_pictures
from cxr.errors import ConfigError
from cxr.evaluation.tables import estimates_by_class
from cxr.images.decoding import stretch
from cxr.metrics.bootstrap import Replicates
from cxr.metrics.estimates import Estimates
from cxr.metrics.link import probabilities
from cxr.network.resnet import predict_logits
from cxr.storage import verified
from cxr.training.predictions import load_network
from cxr.training.run import Run, require_complete

log = logging.getLogger(__name__)

N_IMAGES = 400
"""Default number of images: each goes through its network once per level, 21 times."""
METRICS = ("roc_auc", "sensitivity", "specificity", "accuracy")
UNCHANGED = "unchanged"
DIFFERENCE = ("difference", "difference_low", "difference_high")
COLUMNS = [
    "change",
    "strength",
    "amount",
    "unit",
    "class",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    *DIFFERENCE,
    "reason",
]


@dataclass(frozen=True)
class Change:
    """One way in which an image gets worse."""

    name: str
    unit: str
    amounts: tuple[float, ...]
    """Per strength, from mild to strong."""
    apply: Callable[[Image.Image, float, np.random.Generator], Image.Image]
    """From a grey image, an amount and the image's own generator to the changed image."""


def _blur(grey: Image.Image, percent: float, _: np.random.Generator) -> Image.Image:
    return grey.filter(ImageFilter.GaussianBlur(percent / 100 * min(grey.size)))


def _add_noise(grey: Image.Image, levels: float, generator: np.random.Generator) -> Image.Image:
    return _to_image(np.asarray(grey) + generator.normal(0, levels, (grey.height, grey.width)))


def _flatten(grey: Image.Image, percent_lost: float, _: np.random.Generator) -> Image.Image:
    values = np.asarray(grey, dtype=np.float64)
    return _to_image(values.mean() + (values - values.mean()) * (1 - percent_lost / 100))


def _compress(grey: Image.Image, quality: float, _: np.random.Generator) -> Image.Image:
    stream = io.BytesIO()
    grey.save(stream, "JPEG", quality=int(quality))
    return Image.open(stream).convert("L")


def _turn(grey: Image.Image, degrees: float, generator: np.random.Generator) -> Image.Image:
    values = np.asarray(grey)
    edge = int(np.median(np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])))
    angle = degrees if generator.random() < 0.5 else -degrees
    return grey.rotate(angle, Image.Resampling.BILINEAR, fillcolor=edge)


def _to_image(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


CHANGES = (
    Change("blur", "Gaussian, sd in % of the shorter side", (0.5, 1.0, 2.0, 4.0), _blur),
    Change("noise", "Gaussian, sd in grey levels of 255", (8.0, 16.0, 32.0, 64.0), _add_noise),
    Change("contrast", "% of it lost", (25.0, 50.0, 75.0, 90.0), _flatten),
    Change("jpeg", "quality", (50.0, 20.0, 10.0, 5.0), _compress),
    Change("rotation", "degrees, to either side", (5.0, 10.0, 20.0, 30.0), _turn),
)


def stress(run: Run, *, n_images: int = N_IMAGES, seed: int = 0, device: str = "cpu") -> pd.DataFrame:
    """Evaluate a run on changed images; write and return a table with a row per change, strength, class and metric.

    Columns: change (`unchanged` at strength 0), strength (1 mildest to 4), amount, unit, class, metric, value, ci_low,
    ci_high, difference (from the unchanged images), difference_low, difference_high, reason, n, seed.

    Args:
        run: finished.
        n_images: number of held-out images, drawn at random, each class by its share; all where there are no more.
        seed: of the draw, the noise and the rotations.
        device: cpu, or cuda:<index>.

    Raises:
        ConfigError: `n_images` is below 1.
        DataError: an image is gone or was changed.
        RunError: the run is not finished.
    """
    require_complete(run)
    if n_images < 1:
        raise ConfigError(f"--images must be 1 or more, got {n_images}.")
    images = sample_images(run.images(), n_images, seed)
    rows = _rows(images, dict(_predict(run, images, seed, device)), run.outputs)
    table = pd.DataFrame(rows, columns=COLUMNS).assign(n=len(images), seed=seed)
    table = table.astype({"class": "str", "reason": "str"})
    verified.write_table(run.folder.table("stress"), table)
    return table


def sample_images(images: pd.DataFrame, n_images: int, seed: int) -> pd.DataFrame:
    """Return images drawn at random, by path: each class by its share and at least one; all if there are fewer."""
    if n_images >= len(images):
        return images
    share = n_images / len(images)
    parts = [rows.sample(max(1, round(share * len(rows))), random_state=seed) for _, rows in images.groupby("label")]
    return pd.concat(parts).sort_values("path", ignore_index=True)


Level = tuple[Change | None, int]
"""A change, or None for unchanged, and its strength."""
LEVELS: tuple[Level, ...] = (
    (None, 0),
    *((change, strength) for change in CHANGES for strength in range(1, len(change.amounts) + 1)),
)


def change_image(grey: Image.Image, image_id: str, level: Level, seed: int) -> Image.Image:
    """Return an image changed at a level; random numbers depend only on the image, the change and the seed.

    Args:
        grey: mode L.
        image_id: SHA-256 in hexadecimal.
        level: the change and its strength.
        seed: 0 or more.
    """
    change, strength = level
    if change is None:
        return grey
    generator = np.random.default_rng([seed, int(image_id[:15], 16), CHANGES.index(change)])
    return change.apply(grey, change.amounts[strength - 1], generator)


def _predict(run: Run, images: pd.DataFrame, seed: int, device: str) -> Iterator[tuple[Level, NDArray[np.float64]]]:
    """Yield each level and the probabilities at it, shape (n, n_classes)."""
    size = run.config.size
    read = read_pictures(run.config, size)
    grey_by_id = {str(row.image_id): read(str(row.path), str(row.image_id)).grey for row in images.itertuples()}
    networks = {fold: load_network(run, int(fold)).to(device) for fold in images["fold"].unique()}
    for number, level in enumerate(LEVELS, 1):
        squares = np.stack(
            [stretch(change_image(grey, image_id, level, seed), size) for image_id, grey in grey_by_id.items()]
        )
        logits = np.empty((len(images), len(run.outputs)))
        for fold, network in networks.items():
            inside = (images["fold"] == fold).to_numpy()
            logits[inside] = predict_logits(network, squares[inside], device)
        log.info(
            "%d of %d levels, %d images each",
            number,
            len(LEVELS),
            len(images),
            extra={"bar": "stress", "done": number, "of": len(LEVELS)},
        )
        yield level, probabilities(logits, run.outputs.link)


def _rows(
    images: pd.DataFrame, by_level: dict[Level, NDArray[np.float64]], outputs: Classes | Findings
) -> Iterator[dict[str, Any]]:
    """Yield the table's rows from the probabilities at each level, the unchanged images first."""
    replicates = Replicates.of(images["group_id"])
    unchanged: dict[str | None, Estimates] = {}
    for (change, strength), probability in by_level.items():
        table = images.assign(**dict(zip(outputs.probability_columns, probability.T, strict=True)))
        by_class = estimates_by_class(table, outputs, replicates)
        unchanged = unchanged or by_class
        where = {
            "change": change.name if change else UNCHANGED,
            "strength": strength,
            "amount": change.amounts[strength - 1] if change else np.nan,
            "unit": change.unit if change else None,
        }
        for name, estimates in by_class.items():
            for row in estimates.rows(METRICS):
                difference = estimates.difference(row["metric"], unchanged[name])
                yield where | {"class": name} | row | dict(zip(DIFFERENCE, difference, strict=True))
