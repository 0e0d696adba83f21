"""What the HTML files share: one style, images as small pictures inside the file, histograms as lines.

The files need no network and run no script. Text from the data (paths, labels, reasons) is escaped by Jinja.
"""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL_PX = 112
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
"""Okabe and Ito's, which colour-blind readers tell apart."""


def render(template: Path, **facts: Any) -> str:
    """Return the page that a template makes of the facts; it may extend `page.html.j2` beside this module."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader([template.parent, Path(__file__).parent])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template.name).render(**facts)


def thumbnail(picture: Image.Image, size_px: int = THUMBNAIL_PX) -> str:
    """Return a picture, scaled down in place, as a data URI."""
    picture.thumbnail((size_px, size_px))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def outline(shares: NDArray[np.float64], top: float) -> str:
    """Return a histogram's outline as the points of a polyline in a box of 300 × 110; `top` is the box's height."""
    n_bins = len(shares)
    return " ".join(
        f"{300 * (k + side) / n_bins:.1f},{110 * (1 - share / top):.1f}"
        for k, share in enumerate(shares)
        for side in (0, 1)
    )
