"""Verbs about data sets: draw a synthetic one, show the known ones."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cxr.cli import groups
from cxr.cli.app import Json, app
from cxr.cli.terminal import say


@app.command(group=groups.DATA)
def sample(out: Path, /, *, images: Annotated[int, Parameter(alias="--films")] = 400, seed: int = 0) -> None:
    """Draw a synthetic data set, laid out and named like the Kaggle set, to try everything without real images.

    Example: cxr sample images --images 400 --seed 0

    Args:
        out: Folder to make; it must be empty or not exist.
        images: Number of image files, 40 or more.
        seed: The same seed gives the same files.
    """
    from cxr.images.synthetic import draw_images

    draw_images(out, n_images=images, seed=seed)
    say(f"{images} synthetic images in {out}")


@app.command(group=groups.DATA)
def sets(*, json: Json = False) -> None:
    """Show the collections whose tables the program knows how to read; `--describe NAME` uses one.

    Example: cxr sets
    """
    from cxr.cli import documents, run_results
    from cxr.descriptions import shipped

    (documents if json else run_results).show_sets(shipped())
