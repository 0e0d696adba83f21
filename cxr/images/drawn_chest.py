"""A drawn chest radiograph: anatomy, opacities and exposure, all from random numbers and none from a real image.

The picture is made as a radiograph is. Each part of the body adds to the density that a ray passes through, air in the
lungs takes some of it away, and brightness follows the density of the whole ray. The body is frontal: the patient's
right lung is on the left.

Coordinates run from -1 to 1, x to the right and y downwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Disease = Literal["bacteria", "virus"]
Floats = NDArray[np.floating]
Points = Sequence[tuple[float, float]]
CANVAS_PX = 256
RIGHT, LEFT = -1, 1
"""The patient's sides, by the sign of x."""
N_RIBS = 9


@dataclass(frozen=True)
class Body:
    """What all images of a patient share."""

    half_width: float
    """Of the chest."""
    top: float
    """Height of the lungs' apices."""
    domes: tuple[float, float]
    """Height of the diaphragm's right and left dome."""
    heart: float
    """Width of the heart, as a share of the chest's."""
    fat: float
    """Density of the chest wall."""
    slope: float
    """How far ribs fall on their way outwards."""
    rib_gap: float
    """From one rib to the next."""
    rib_width: float
    first_rib: float
    """Below the apices."""
    seed: int
    """Of the vessels."""

    @classmethod
    def drawn_from(cls, generator: np.random.Generator) -> "Body":
        """Draw a patient's body."""
        dome = generator.uniform(0.3, 0.47)
        return cls(
            half_width=generator.uniform(0.7, 0.8),
            top=generator.uniform(-0.72, -0.6),
            domes=(dome, dome + generator.uniform(0.03, 0.09)),
            heart=generator.uniform(0.42, 0.52),
            fat=generator.uniform(0.8, 1.25),
            slope=generator.uniform(0.12, 0.3),
            rib_gap=generator.uniform(0.12, 0.165),
            rib_width=generator.uniform(0.038, 0.06),
            first_rib=generator.uniform(0, 0.12),
            seed=int(generator.integers(2**32)),
        )


def draw_chest(body: Body, disease: Disease | None, scene: np.random.Generator) -> tuple[Floats, Floats]:
    """Return an image of a body, and where its opacities are.

    Args:
        body: of the patient.
        disease: None for healthy lungs, which may have a small harmless shadow.
        scene: draws what differs between images of a patient: breath, position, opacities and exposure.

    Returns:
        The image, shape (CANVAS_PX, CANVAS_PX), from 0 to 1, bright where dense; and the density of its opacities, of
        the same shape, 0 where there is none and throughout healthy lungs.
    """
    bones, vessels = _bones(body), _vessels(body.seed)
    breath = scene.uniform(-0.05, 0.05)
    body = replace(body, domes=(body.domes[0] + breath, body.domes[1] + breath))
    lungs = _lungs(body)
    air = lungs[RIGHT] + lungs[LEFT]
    opacities = {"bacteria": _consolidation, "virus": _interstitial, None: _nothing}[disease](lungs, scene)
    density = _soft_tissue(body) - 0.54 * air + 0.3 * bones * (0.55 + 0.45 * air)
    density += (
        0.17 * vessels * (0.3 + 0.7 * air) + 0.05 * _texture(scene, 5) + 0.06 * _texture(scene, 64)
    ) * air + opacities
    if disease is None and scene.random() < 0.3:
        density += 0.12 * _blob(scene.uniform(0.25, 0.5) * scene.choice((RIGHT, LEFT)), scene.uniform(-0.3, 0.3), 0.05)
    x, y, zoom, degrees = (scene.uniform(*limits) for limits in ((-0.05, 0.05), (-0.05, 0.05), (1.12, 1.26), (-3, 3)))
    return _exposed(_moved(density, x, y, zoom, degrees), scene), _moved(opacities, x, y, zoom, degrees)


def _lungs(body: Body) -> dict[int, Floats]:
    """Return how much of each lung a ray passes through, from 0 to 1, by side."""
    lungs = {}
    for side, dome in ((RIGHT, body.domes[0]), (LEFT, body.domes[1])):
        outer, top = body.half_width - 0.1, body.top
        wall = [(0.16, top + 0.06), (0.3, top), (0.44, top + 0.07), (outer - 0.08, -0.3), (outer, 0.1)]
        base = [(outer, dome + 0.16), (0.52, dome + 0.02), (0.32, dome), (0.16, dome + 0.05)]
        middle = [(0.17, 0.2), (0.19, -0.02), (0.13, -0.25), (0.12, -0.45)]
        if side == LEFT:  # the heart takes its place
            middle = [
                (0.36 * body.heart + 0.19, 0.3),
                (0.3 * body.heart + 0.12, 0.05),
                (0.2, -0.12),
                (0.21, -0.26),
                (0.12, -0.45),
            ]
        lungs[side] = _filled([(side * x, y) for x, y in _rounded([*wall, *base, *middle])], blur_px=3)
    return lungs


def _soft_tissue(body: Body) -> Floats:
    """Return the density of chest wall, mediastinum, heart and abdomen."""
    w = body.half_width + 0.06
    torso = [(-w - 0.1, 1.1), (-w, 0.3), (-w, -0.15), (-1.2, -0.5), (-0.62, -0.78), (-0.22, -0.88), (-0.18, -1.1)]
    outline = torso + [(-x, y) for x, y in reversed(torso)]
    density = 0.48 * body.fat**0.5 * _filled(outline, blur_px=5) + 0.1 * _filled(
        _oval(0, 0.1, w * 0.8, 1.3), blur_px=16
    )
    density += 0.16 * _filled([(-0.16, -1.1), (0.16, -1.1), (0.2, 1.1), (-0.2, 1.1)], blur_px=6)
    density += 0.12 * _filled([(-0.075, -1.1), (0.075, -1.1), (0.09, 1.1), (-0.09, 1.1)], blur_px=2)
    density -= 0.1 * _filled([(-0.035, -1.1), (0.035, -1.1), (0.04, -0.25), (-0.04, -0.25)], blur_px=2)  # the trachea
    reach = body.heart * body.half_width
    density += 0.24 * _filled(_oval(0.1, 0.22, reach * 0.92, 0.34, tilt=0.45), blur_px=5)
    density += 0.12 * _filled(_oval(0.13, -0.26, 0.1, 0.11), blur_px=4)  # the arch of the aorta
    for side, dome in ((RIGHT, body.domes[0]), (LEFT, body.domes[1])):
        arc = [(side * x, y) for x, y in ((0, dome + 0.1), (0.16, dome + 0.05), (0.33, dome), (0.52, dome + 0.03))]
        corner = [(side * x, y) for x, y in ((body.half_width, dome + 0.24), (body.half_width, 1.1), (0, 1.1))]
        density += 0.2 * _filled(arc + corner, blur_px=3)
    return density - 0.22 * _filled(_oval(0.34, body.domes[1] + 0.17, 0.14, 0.08), blur_px=4)  # air in the stomach


@lru_cache(maxsize=1)
def _bones(body: Body) -> Floats:
    """Return the density of ribs, clavicles and vertebrae; that of the last body is kept, for its next image."""
    pen = _Pen()
    for k in range(N_RIBS):
        y = body.top + body.first_rib + body.rib_gap * k
        reach = min(body.half_width - 0.08, 0.34 + 0.1 * k)
        back = _curve([(0.1, y), (0.3, y - 0.05), (reach * 0.75, y + 0.3 * body.slope), (reach, y + body.slope)])
        front = _curve([(reach, y + body.slope), (reach * 0.8, y + 1.6 * body.slope), (0.3, y + 2.3 * body.slope)])
        for side in (RIGHT, LEFT):
            pen.tube([(side * px, py) for px, py in back], width=body.rib_width, strength=0.42)
            pen.tube([(side * px, py) for px, py in front], width=body.rib_width * 1.1, strength=0.22)
    bar = _curve([(0.08, body.top + 0.19), (0.28, body.top + 0.13), (0.48, body.top + 0.08), (0.72, body.top - 0.05)])
    for side in (RIGHT, LEFT):
        pen.tube([(side * px, py) for px, py in bar], width=0.06, strength=0.6)
    for y in np.arange(-0.95, 1.0, 0.12):
        pen.box(-0.07, y, 0.07, y + 0.09, strength=0.34)
    return pen.density


@lru_cache(maxsize=1)
def _vessels(seed: int) -> Floats:
    """Return the vessels of a body, which branch from both hila into the lungs and taper; kept as `_bones` are."""
    generator = np.random.default_rng(seed)
    pen = _Pen()
    for side in (RIGHT, LEFT):
        for angle in np.linspace(-1.25, 1.25, 7):
            _branch(
                pen,
                (side * 0.17, -0.04),
                angle + generator.normal(0, 0.2),
                side,
                generator.uniform(0.026, 0.042),
                generator,
            )
    hila = _blob(RIGHT * 0.19, -0.02, 0.08) + _blob(LEFT * 0.2, -0.06, 0.07)
    return np.clip(pen.density + 0.7 * hila, 0, 1)


def _branch(
    pen: "_Pen", start: tuple[float, float], angle: float, side: int, width: float, generator: np.random.Generator
) -> None:
    """Draw a vessel and those that branch off; `angle` is in radians, 0 points outwards."""
    if width < 0.006:
        return
    length = generator.uniform(0.1, 0.17)
    end = start[0] + side * length * np.cos(angle), start[1] + length * np.sin(angle)
    pen.line([start, end], width, strength=0.55)
    for turn in (generator.uniform(0.1, 0.45), -generator.uniform(0.1, 0.45)):
        _branch(pen, end, angle + turn, side, width * 0.66, generator)


def _nothing(lungs: dict[int, Floats], scene: np.random.Generator) -> Floats:
    return np.zeros((CANVAS_PX, CANVAS_PX), np.float32)


def _consolidation(lungs: dict[int, Floats], scene: np.random.Generator) -> Floats:
    """Return one dense opacity in a lobe, with a ragged border and the bronchi left in it; some are faint."""
    side = scene.choice((RIGHT, LEFT))
    x, y = side * scene.uniform(0.28, 0.5), scene.uniform(-0.4, 0.3)
    spread = scene.uniform(0.17, 0.28)
    shape = _blob(x, y, spread, spread * scene.uniform(0.8, 1.3)) + 0.22 * _texture(scene, 9)
    ragged = np.clip((shape - 0.3) / 0.45, 0, 1) * (1 - 0.25 * np.clip(_texture(scene, 30), 0, 1))
    return scene.uniform(0.32, 0.65) * ragged * lungs[side]


def _interstitial(lungs: dict[int, Floats], scene: np.random.Generator) -> Floats:
    """Return faint patches and a fine net in both lungs, denser around the hila."""
    patches = np.clip(_texture(scene, 7) - 0.1, 0, 1) + 0.35 * np.abs(_texture(scene, 36))
    strength = scene.uniform(0.32, 0.52)
    around = 0.45 + _blob(RIGHT * 0.3, 0, 0.3) + _blob(LEFT * 0.3, 0, 0.3)
    return np.clip(strength * patches * around, 0, 0.5) * (lungs[RIGHT] + lungs[LEFT])


def _exposed(density: Floats, scene: np.random.Generator) -> Floats:
    """Return the image of a density: exposure, contrast, scatter, noise, a collimated border now and then."""
    image = 1 - np.exp(-scene.uniform(1.25, 1.75) * np.clip(density, 0, None))
    image = image ** scene.uniform(0.8, 1.25)
    image = image + scene.normal(0, scene.uniform(0.014, 0.028), image.shape)
    image = (image - 0.5) * scene.uniform(0.92, 1.12) + 0.5 + scene.normal(0, 0.025)
    if scene.random() < 0.3:
        rows, columns = (int(share * CANVAS_PX) for share in scene.uniform(0.01, 0.06, 2))
        image[:rows], image[-rows:], image[:, :columns], image[:, -columns:] = 0.02, 0.02, 0.02, 0.02
    return np.clip(image, 0, 1).astype(np.float32)


def _moved(picture: Floats, x: float, y: float, zoom: float, degrees: float) -> Floats:
    """Return a picture of another position, size and rotation of the patient; what comes into view is empty."""
    turned = Image.fromarray(picture.astype(np.float32)).rotate(degrees, Image.Resampling.BILINEAR)
    middle, half = CANVAS_PX / 2, CANVAS_PX / 2 / zoom
    left, top = middle - half - x * middle, middle - half - y * middle
    box = (1 / zoom, 0, left, 0, 1 / zoom, top)
    return np.asarray(turned.transform(turned.size, Image.Transform.AFFINE, box, Image.Resampling.BILINEAR))


def _texture(scene: np.random.Generator, n_cells: int) -> Floats:
    """Return smooth random values around 0, mostly within ±1, that change over a cell's width."""
    cells = Image.fromarray(scene.normal(0, 0.5, (n_cells, n_cells)).astype(np.float32))
    return np.asarray(cells.resize((CANVAS_PX, CANVAS_PX), Image.Resampling.BICUBIC))


def _blob(x: float, y: float, width: float, height: float | None = None) -> Floats:
    """Return a soft ellipse of height 1."""
    rows, columns = np.mgrid[-1 : 1 : CANVAS_PX * 1j, -1 : 1 : CANVAS_PX * 1j].astype(np.float32)
    return np.exp(-(((columns - x) / width) ** 2) - ((rows - y) / (height or width)) ** 2)


def _filled(outline: Points, blur_px: float) -> Floats:
    """Return an area as 1 within its outline and 0 outside, softened."""
    mask = Image.new("L", (CANVAS_PX, CANVAS_PX))
    ImageDraw.Draw(mask).polygon(_pixels(outline), fill=255)
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(blur_px)), np.float32) / 255


def _oval(x: float, y: float, width: float, height: float, tilt: float = 0) -> Points:
    """Return the outline of an ellipse with these half axes, turned by `tilt` radians."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    u, v = width * np.cos(angles), height * np.sin(angles)
    turned = x + u * np.cos(tilt) - v * np.sin(tilt), y + u * np.sin(tilt) + v * np.cos(tilt)
    return list(zip(*(axis.tolist() for axis in turned), strict=True))


def _rounded(corners: Points) -> Points:
    """Return a closed outline whose corners are cut twice (Chaikin's algorithm)."""
    points = np.array(corners)
    for _ in range(2):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1).reshape(-1, 2)
    return [(float(px), float(py)) for px, py in points]


def _curve(points: Points) -> Points:
    """Return a smooth curve through points whose x changes in one direction."""
    xs, ys = np.array(points).T
    position = np.linspace(0, 1, len(points))
    fine = np.linspace(0, 1, 24)
    degree = len(points) - 1
    smooth = [np.polyval(np.polyfit(position, axis, degree), fine) for axis in (xs, ys)]
    return list(zip(*(axis.tolist() for axis in smooth), strict=True))


def _pixels(points: Points) -> list[tuple[float, float]]:
    return [((x + 1) * CANVAS_PX / 2, (y + 1) * CANVAS_PX / 2) for x, y in points]


class _Pen:
    """Draws bones and vessels as densities of one picture."""

    def __init__(self) -> None:
        self._sheet = Image.new("L", (CANVAS_PX, CANVAS_PX))
        self._draw = ImageDraw.Draw(self._sheet)

    @property
    def density(self) -> Floats:
        """Return what was drawn, from 0 to 1, softened."""
        return np.asarray(self._sheet.filter(ImageFilter.GaussianBlur(0.9)), np.float32) / 255

    def line(self, points: Points, width: float, strength: float) -> None:
        """Draw a line of a width in coordinates."""
        pixels = max(1, round(width * CANVAS_PX / 2))
        self._draw.line(_pixels(points), fill=round(255 * strength), width=pixels, joint="curve")

    def tube(self, points: Points, width: float, strength: float) -> None:
        """Draw a bone: denser at its edges, where a ray passes through more of its shell."""
        self.line(points, width, strength)
        self.line(points, width * 0.5, strength * 0.72)

    def box(self, left: float, top: float, right: float, bottom: float, strength: float) -> None:
        """Draw a vertebra."""
        self._draw.rectangle(_pixels([(left, top), (right, bottom)]), fill=round(255 * strength))
