"""Verbs that score beside the flow score-batch: explain single images, release a batch that is held."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cxr.cli import groups
from cxr.cli.app import Device, Json, Models, app
from cxr.cli.terminal import say


@app.command(group=groups.SCORING)
def explain(
    *images: Path,
    name: str,
    models: Models = Path("models"),
    out: Path = Path("explanations"),
    target: Annotated[str | None, Parameter(name="--class")] = None,
    opacity: float = 0.5,
    device: Device = "auto",
    cache: Path = Path("cache"),
    json: Json = False,
) -> None:
    """Show what the champion predicts for images, and where it looked (Grad-CAM); exit code 2 if a file is no image.

    Example: cxr explain image.jpeg --name pneumonia

    Args:
        images: JPEG, PNG or DICOM files.
        name: Name of the model.
        out: Folder for the pictures and explanations.parquet.
        target: The class or finding to show the map for; by default what is predicted, or nearest to being so.
        opacity: Opacity of the map where it is strongest, 0 to 1.
        cache: Folder for compiled kernels, as for `cxr score`; safe to delete.
    """
    from cxr.errors import ConfigError
    from cxr.storage.run_folder import ExplanationFolder

    if not images:
        raise ConfigError("name one or more images: cxr explain image.jpeg --name NAME.")
    from cxr.cli import documents, tables
    from cxr.serving.explanations import explain_images
    from cxr.serving.registry import load_champion

    package = load_champion(models, name)
    folder = ExplanationFolder(out)
    table = explain_images(package, images, folder, target=target, opacity=opacity, device=device, cache=cache)
    (documents if json else tables).show_explanations(table, package, folder)
    if (table["status"] != "ok").any():
        sys.exit(2)


@app.command(group=groups.SCORING)
def release(batch: str, /, *, out: Annotated[Path, Parameter(help="Folder of the scores.")] = Path("scores")) -> None:
    """Publish the scores of a batch that the checks have held.

    Example: cxr release 2026-11-23

    Args:
        batch: The batch's folder in the inbox.
    """
    from cxr.cli import terminal
    from cxr.serving.scoring import scores
    from cxr.storage.scores_folder import ScoresFolder

    with terminal.log_lines():
        n_rows = scores.release(ScoresFolder.at(out), batch)
    say(f"published {n_rows} rows of batch {batch!r}")
