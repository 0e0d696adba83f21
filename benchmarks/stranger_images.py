"""Stand-ins for images that a model of frontal chest X-rays has never seen the like of.

There is no set of laterals, masks or other parts of the body here. So they are made of the chests at hand, drawn, or
taken from what installed libraries ship (grey photographs, slices of CT and MR). What holds for them need not hold for
the real ones; the drawn laterals are the weakest of all.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pywt.data
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from pydicom import dcmread
from pydicom.data import get_testdata_file
from sklearn.datasets import load_sample_images

from cxr.images.decoding import stretch

CANVAS_PX = 224
Square = NDArray[np.uint8]
"""Shape (CANVAS_PX, CANVAS_PX)."""
WORDS = ("dear", "colleague", "the", "image", "of", "your", "chest", "shows", "no", "sign", "of", "pneumonia")


def strangers_of(chests: Sequence[Square], seed: int) -> Iterator[tuple[str, list[Square]]]:
    """Yield each kind of stranger with as many squares as there are chests (slices: all there are).

    Args:
        chests: held-out images, of which some kinds are made.
        seed: of what is drawn.
    """
    generator = np.random.default_rng(seed)
    for kind, change in OF_CHESTS.items():
        yield kind, [change(chest, generator) for chest in chests]
    for kind, draw in DRAWN.items():
        yield kind, [draw(generator) for _ in chests]
    whole = photographs()
    yield "grey photograph, cropped", [_crop(whole[k % len(whole)], generator) for k in range(len(chests))]
    yield "slice of CT or MR, bone scan", slices()


def _half(chest: Square, generator: np.random.Generator) -> Square:
    """Return one side of a chest, stretched: one lung field beside the spine, as a lateral has."""
    left = chest[:, : CANVAS_PX // 2]
    side = left if generator.random() < 0.5 else chest[:, CANVAS_PX // 2 :]
    return _stretched(side)


def _quarter(chest: Square, generator: np.random.Generator) -> Square:
    """Return one of the two upper quarters, stretched: a shoulder."""
    middle = CANVAS_PX // 2
    return _stretched(chest[:middle, :middle] if generator.random() < 0.5 else chest[:middle, middle:])


def _lung_mask(chest: Square, _: np.random.Generator) -> Square:
    """Return where the middle of a chest is darker than most of it, in white on black."""
    smooth = np.asarray(Image.fromarray(chest).filter(ImageFilter.GaussianBlur(5)))
    y, x = _grid()
    inside = (x / 0.8) ** 2 + (y / 0.85) ** 2 < 1
    return np.where(inside & (smooth < np.quantile(smooth[inside], 0.4)), 255, 0).astype(np.uint8)


OF_CHESTS: dict[str, Callable[[Square, np.random.Generator], Square]] = {
    "inverted": lambda chest, _: 255 - chest,
    "upside down": lambda chest, _: np.ascontiguousarray(chest[::-1]),
    "lying on its side": lambda chest, _: np.ascontiguousarray(np.rot90(chest)),
    "lateral: half a chest, stretched": _half,
    "shoulder: a quarter of a chest, stretched": _quarter,
    "mask: the dark middle of a chest": _lung_mask,
}
"""By name, how a stranger is made of a chest."""


def _draw_lateral(generator: np.random.Generator) -> Square:
    y, x = _grid()
    image = 0.6 * _ellipse(x, y, 0.05, 0.1, generator.uniform(0.75, 0.9), 1.2)
    image -= 0.35 * _ellipse(x, y, 0, -0.1, generator.uniform(0.5, 0.62), generator.uniform(0.6, 0.75))
    image += 0.3 * _ellipse(x, y, -0.28, 0.3, 0.3, generator.uniform(0.3, 0.45))  # heart, behind the breastbone
    spine = 0.55 + 0.12 * np.cos(1.5 * y)
    image += 0.3 * np.exp(-(((x - spine) / 0.13) ** 2)) * (0.75 + 0.25 * np.cos(22 * y))
    image += 0.35 * _ellipse(x, y, 0.1, 1.05, 0.9, generator.uniform(0.3, 0.45))  # below the diaphragm
    image += 0.2 * _ellipse(x, y, 0, -0.85, 0.6, 0.3)  # shoulders
    return _finished(image if generator.random() < 0.5 else image[:, ::-1], generator)


def _draw_mask(generator: np.random.Generator) -> Square:
    y, x = _grid()
    width = generator.uniform(0.24, 0.34)
    height = generator.uniform(0.5, 0.68)
    tilt = generator.uniform(0.06, 0.16)
    lungs = [((x + side * (tilt * y - 0.4)) / width) ** 2 + ((y + 0.05) / height) ** 2 < 1 for side in (-1, 1)]
    return np.where(lungs[0] | lungs[1], 255, 0).astype(np.uint8)


def _draw_hand(generator: np.random.Generator) -> Square:
    image = Image.new("L", (CANVAS_PX, CANVAS_PX), 8)
    pen = ImageDraw.Draw(image)
    pen.ellipse((60, 110, 164, 220), fill=95)
    for k, length in enumerate((70, 95, 105, 95, 70)):
        base = (74 + 19 * k, 140)
        tip = (base[0] + 14 * (k - 2), base[1] - length * generator.uniform(0.9, 1.1))
        pen.line((*base, *tip), fill=95, width=20)
        pen.line((base[0], 200, *tip), fill=190, width=9)
    turned = image.rotate(float(generator.uniform(-40, 40)), fillcolor=8)
    return _finished(np.asarray(turned) / 255, generator)


def _draw_limb(generator: np.random.Generator) -> Square:
    y, x = _grid()
    tilt = generator.uniform(-0.2, 0.2)
    across = x - tilt * y
    image = 0.4 * np.exp(-((across / generator.uniform(0.4, 0.6)) ** 4))
    for place in (-0.15, 0.15):
        image += 0.4 * np.exp(-(((across - place) / generator.uniform(0.07, 0.11)) ** 4))
    return _finished(image, generator)


def _draw_skull(generator: np.random.Generator) -> Square:
    y, x = _grid()
    width = generator.uniform(0.55, 0.7)
    image = 0.8 * _ellipse(x, y, 0, -0.1, width, 0.8) - 0.3 * _ellipse(x, y, 0, -0.1, width - 0.1, 0.7)
    for side in (-1, 1):
        image -= 0.3 * _ellipse(x, y, side * 0.25, 0.05, 0.15, 0.12)
    image += 0.25 * _ellipse(x, y, 0, 0.55, 0.25, 0.2)
    return _finished(image, generator)


def _draw_letter(generator: np.random.Generator) -> Square:
    image = Image.new("L", (CANVAS_PX, CANVAS_PX), 245)
    pen = ImageDraw.Draw(image)
    for line in range(int(generator.integers(8, 16))):
        pen.text((20, 20 + 12 * line), " ".join(generator.choice(WORDS, 6)), fill=20)
    return np.asarray(image)


DRAWN: dict[str, Callable[[np.random.Generator], Square]] = {
    "lateral: drawn": _draw_lateral,
    "mask: drawn": _draw_mask,
    "hand: drawn": _draw_hand,
    "limb: drawn": _draw_limb,
    "skull: drawn": _draw_skull,
    "letter: drawn": _draw_letter,
}


def photographs() -> list[NDArray[np.uint8]]:
    """Return the photographs that scikit-learn, PyWavelets and Matplotlib ship, in grey."""
    arrays = [*load_sample_images().images, pywt.data.aero(), pywt.data.ascent(), pywt.data.camera()]
    images = [Image.fromarray(np.asarray(array, np.uint8)) for array in arrays]
    with Image.open(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))) as image:
        images.append(image.convert("L"))
    return [np.asarray(image.convert("L")) for image in images]


def slices() -> list[Square]:
    """Return the slices of CT and MR and the bone scan that pydicom ships for its tests."""
    names = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "693_J2KI.dcm")
    pixels = [dcmread(str(get_testdata_file(name, download=False))).pixel_array for name in names]
    return [_stretched(_to_levels(array.astype(np.float64))) for array in pixels]


def _crop(image: NDArray[np.uint8], generator: np.random.Generator) -> Square:
    """Return a crop of at least half of the shorter side, mirrored or not."""
    side = int(min(image.shape) * generator.uniform(0.5, 1))
    top = int(generator.integers(image.shape[0] - side + 1))
    left = int(generator.integers(image.shape[1] - side + 1))
    part = image[top : top + side, left : left + side]
    return _stretched(part if generator.random() < 0.5 else part[:, ::-1])


def _grid() -> NDArray[np.float64]:
    """Return y and x from -1 to 1, shape (2, CANVAS_PX, CANVAS_PX)."""
    return np.mgrid[-1 : 1 : CANVAS_PX * 1j, -1 : 1 : CANVAS_PX * 1j]


def _ellipse(
    x: NDArray[np.float64], y: NDArray[np.float64], center_x: float, center_y: float, width: float, height: float
) -> NDArray[np.float64]:
    """Return a soft ellipse of height 1."""
    return np.exp(-((((x - center_x) / width) ** 2 + ((y - center_y) / height) ** 2) ** 3))


def _finished(image: NDArray[np.float64], generator: np.random.Generator) -> Square:
    """Return values from 0 to 1 as grey levels, with noise and a brightness of their own."""
    noisy = image * generator.uniform(0.8, 1.2) + generator.normal(0, 0.02, image.shape)
    return (255 * np.clip(noisy, 0, 1)).astype(np.uint8)


def _to_levels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    low, high = values.min(), values.max()
    return (255 * (values - low) / (high - low)).astype(np.uint8)


def _stretched(image: NDArray[np.uint8]) -> Square:
    return stretch(Image.fromarray(np.ascontiguousarray(image)), CANVAS_PX)
