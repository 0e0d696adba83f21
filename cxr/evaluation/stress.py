"""How a run holds up on images that are worse than those it was trained on.

Held-out images are blurred, made noisy or flat, compressed or turned, ever more, at the size they are decoded at and
before they become squares, as a poor device or a careless export would. Each is judged by the fold that never saw
it. How much a metric changes is paired: each replicate of the bootstrap draws the same patients at every strength.

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
from scipy.special import softmax

from cxr.classes import Classes
from cxr.dataset.pictures import read_pictures
from cxr.errors import ConfigError
from cxr.evaluation.tables import metrics_by_class, replicates_by_class
from cxr.images.decoding import stretch
from cxr.metrics.bootstrap import draw_groups, percentile_interval
from cxr.network.resnet import predict_logits
from cxr.storage import files
from cxr.training.predictions import load_network
from cxr.training.run import Run, require_complete

log = logging.getLogger(__name__)

N_IMAGES = 400
"""Images that are changed by default: each goes through its network 21 times."""
METRICS = ("roc_auc", "sensitivity", "specificity", "accuracy")
UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Change:
    """One way for an image to be worse."""

    name: str
    unit: str
    amounts: tuple[float, ...]
    """From mild to strong."""
    apply: Callable[[Image.Image, float, np.random.Generator], Image.Image]
    """A grey image, an amount and a generator of the image's own to the changed image."""


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
    """Evaluate changed images; return a row for each change, strength, class and metric, and write them.

    Columns: change (`unchanged` at strength 0), strength (1 mildest to 4), amount, unit, class, metric, value, ci_low,
    ci_high, difference (from the unchanged images), difference_low, difference_high, n, seed, reason.

    Args:
        run: finished.
        n_images: at most so many held-out images, drawn at random, each class by its share.
        seed: of the draw, of the noise and of the turns.
        device: cpu, or cuda:<index>.

    Raises:
        ConfigError: there is no image to judge.
        DataError: an image is gone or was changed.
        RunError: the run is not finished.
    """
    require_complete(run)
    if n_images < 1:
        raise ConfigError(f"--images must be 1 or more, got {n_images}.")
    images = draw_images(run.images(), n_images, seed)
    rows = list(_rows(images, dict(_judge(run, images, seed, device)), run.classes))
    table = pd.DataFrame(rows).assign(n=len(images), seed=seed).astype({"class": "str", "reason": "str"})
    files.write_table(run.folder.table("stress"), table)
    return table


def draw_images(images: pd.DataFrame, n_images: int, seed: int) -> pd.DataFrame:
    """Return images drawn at random, each class by its share and one at least, by path; all where there are no more."""
    if n_images >= len(images):
        return images
    share = n_images / len(images)
    parts = [of.sample(max(1, round(share * len(of))), random_state=seed) for _, of in images.groupby("label")]
    return pd.concat(parts).sort_values("path", ignore_index=True)


Level = tuple[Change | None, int]
LEVELS: tuple[Level, ...] = ((None, 0), *((c, s) for c in CHANGES for s in range(1, len(c.amounts) + 1)))


def change_image(grey: Image.Image, image_id: str, level: Level, seed: int) -> Image.Image:
    """Return the image at a strength; what is drawn depends on the image, the change and the seed alone."""
    change, strength = level
    if change is None:
        return grey
    generator = np.random.default_rng([seed, int(image_id[:15], 16), CHANGES.index(change)])
    return change.apply(grey, change.amounts[strength - 1], generator)


def _judge(run: Run, images: pd.DataFrame, seed: int, device: str) -> Iterator[tuple[Level, NDArray[np.float64]]]:
    """Yield the probabilities at each strength, shape (n, n_classes)."""
    read, size = read_pictures(run.config, run.config.size), run.config.size
    grey = [read(str(image.path), str(image.image_id)).grey for image in images.itertuples()]
    networks = {fold: load_network(run, int(fold)).to(device) for fold in images["fold"].unique()}
    for number, level in enumerate(LEVELS, 1):
        ids = images["image_id"]
        squares = np.stack([stretch(change_image(one, i, level, seed), size) for one, i in zip(grey, ids, strict=True)])
        logits = np.empty((len(images), len(run.classes)))
        for fold, network in networks.items():
            inside = (images["fold"] == fold).to_numpy()
            logits[inside] = predict_logits(network, squares[inside], device)
        log.info(
            "%d of %d strengths, %d images each",
            number,
            len(LEVELS),
            len(images),
            extra={"bar": "stress", "done": number, "of": len(LEVELS)},
        )
        yield level, softmax(logits, axis=1)


def _rows(images: pd.DataFrame, judged: dict[Level, NDArray[np.float64]], classes: Classes) -> Iterator[dict[str, Any]]:
    group = images["group_id"].factorize()[0].astype(np.int64)
    drawn = draw_groups(int(group.max()) + 1)
    names = [f"probability_{name}" for name in classes]
    base_values, base_replicates = {}, {}
    for (change, strength), probability in judged.items():
        table = images.assign(**dict(zip(names, probability.T, strict=True)))
        values = metrics_by_class(table, classes)
        replicates = replicates_by_class(table, classes, group, drawn)
        if change is None:
            base_values, base_replicates = values, replicates
        where = {
            "change": change.name if change else UNCHANGED,
            "strength": strength,
            "amount": change.amounts[strength - 1] if change else np.nan,
            "unit": change.unit if change else None,
        }
        for name, by_metric in values.items():
            for metric in (m for m in METRICS if m in by_metric):
                low, high = percentile_interval(replicates[name][metric])
                change_low, change_high = percentile_interval(replicates[name][metric] - base_replicates[name][metric])
                value, reason = by_metric[metric]
                yield where | {
                    "class": name,
                    "metric": metric,
                    "value": value,
                    "ci_low": low,
                    "ci_high": high,
                    "difference": value - base_values[name][metric].value,
                    "difference_low": change_low,
                    "difference_high": change_high,
                    "reason": reason,
                }
