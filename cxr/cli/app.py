"""The command line's application, the parameters that verbs share, and the verb that draws images."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cxr import __version__
from cxr.cli.arguments import require_usable
from cxr.cli.terminal import say
from cxr.wording import DISCLAIMER

HELP = f"""Cross-validated chest X-ray classification as a batch pipeline.

{DISCLAIMER}
"""


app = App(
    name="cxr",
    help=HELP,
    version=__version__,
    result_action="return_value",
    config=require_usable,
    default_parameter=Parameter(negative_iterable=()),  # no --empty-NAME beside an option that may be repeated
)


Experiments = Annotated[Path, Parameter(help="Folder that holds all runs, or a URL such as s3://bucket/runs.")]


Models = Annotated[Path, Parameter(help="Folder that holds all models.")]


Device = Annotated[str, Parameter(help="cpu, cuda:N, or auto: a GPU if there is one.")]


@app.command
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
