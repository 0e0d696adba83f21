"""What all HTML reports share: one style, images embedded as thumbnails.

The reports need no network and run no script. Jinja escapes all text from the data (paths, labels, reasons), and makes
its control characters visible.
"""

import base64
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from cxr.wording import format_time, visible

if TYPE_CHECKING:
    from jinja2 import Environment

THUMBNAIL_PX = 112
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""
ON_DARK = {"#0072b2": "#5ab4f0", "#d55e00": "#ff8f4a", "#009e73": "#35d0a5", "#cc79a7": "#e3a3c8"}
"""Lighter colours that stand for those of COLOURS that a dark page would swallow."""


def render(template: Path, **facts: Any) -> str:
    """Return the page that a template renders from the facts.

    Args:
        template: a Jinja template; it may extend and include those beside this module, such as `page.html.j2`.
        facts: the template's variables; a variable that is missing raises UndefinedError.
    """
    return _environment(template.parent).get_template(template.name).render(on_dark=ON_DARK, **facts)


@cache
def _environment(folder: Path) -> "Environment":
    """Return what renders the templates of a folder; it is kept, as it keeps each template that it has compiled."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = format_time
    environment.filters["command"] = _command
    return environment


def _finalize(value: Any) -> Any:
    """Return what a template writes for a value: text becomes visible, markup stays as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _command(line: str) -> Markup:
    """Return a command as code; a line of the page never ends within the hyphens of an option."""
    option = Markup('<span class="keep">{}</span>')
    words = [option.format(visible(word)) if word.startswith("--") else visible(word) for word in line.split(" ")]
    return Markup("<code>{}</code>").format(Markup(" ").join(words))


def thumbnail(picture: Image.Image, size_px: int = THUMBNAIL_PX) -> str:
    """Scale a picture down in place, to at most `size_px` per side, and return it as a JPEG data URI."""
    picture.thumbnail((size_px, size_px))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
