"""Verbs beside the flow score-batch: explain single images, release a batch that is held, labels that come later."""

import os
import pwd
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cxr.cli import groups
from cxr.cli.app import Device, Json, Models, app
from cxr.cli.terminal import say
from cxr.labelling import LabelTables, MissingFilms


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
    """Show what the champion predicts for images, and where it looked; exit code 2 if a file is no image.

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
    from cxr.cli import documents, model_results
    from cxr.serving.explanations import explain_images
    from cxr.serving.registry import load_champion

    package = load_champion(models, name)
    folder = ExplanationFolder(out)
    table = explain_images(package, images, folder, target=target, opacity=opacity, device=device, cache=cache)
    (documents if json else model_results).show_explanations(table, package, folder)
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


@dataclass(frozen=True, kw_only=True)
class LaterLabels(LabelTables):
    """The tables of labels, named without an option.

    Attributes:
        labels: Table of labels (csv, tsv, txt, jsonl, parquet, xlsx, also .gz); several are joined as for training.
    """

    labels: tuple[str, ...] = field(default=(), kw_only=False)
    missing_films: Annotated[MissingFilms, Parameter(parse=False)] = "refuse"
    """Not offered: rows may always name images that are not scored."""


@app.command(group=groups.SCORING)
def feedback(
    labelling: Annotated[LaterLabels, Parameter(name="*")] = LaterLabels(),
    *,
    name: str,
    by: str | None = None,
    out: Annotated[Path, Parameter(help="Folder of the scores.")] = Path("scores"),
    models: Models = Path("models"),
    cache: Annotated[Path, Parameter(help="Folder of the key that patient ids are hashed with.")] = Path("cache"),
    json: Json = False,
) -> None:
    """Enter labels that came after the scores, and judge by all of them if the model keeps what its package promises.

    Labels are joined to scored images by path, image_id or SOPInstanceUID; a label of an image that had one is a
    correction, and the former stays in the history. Rows that name no scored image are counted and listed. Exit code 1
    if the champion is surely below what was promised.

    Example: cxr feedback labels.csv --name pneumonia

    Args:
        name: Name of the model.
        by: Who gives the labels; by default the user of this process.
    """
    from cxr.cli import documents, model_results, terminal
    from cxr.feedback.feedback import give_feedback
    from cxr.feedback.summary import verdict_of
    from cxr.serving.registry import load_champion
    from cxr.storage.model_folder import ModelFolder
    from cxr.storage.scores_folder import ScoresFolder

    scores = ScoresFolder.at(out)
    model = ModelFolder.named(models, name)
    with terminal.log_lines():
        champion = load_champion(models, name)
        entered = give_feedback(scores, model, champion, labelling, by=by or _user(), cache=cache)
    folder = scores.feedback(model.name)
    (documents if json else model_results).show_feedback(entered, folder)
    verdict = verdict_of(folder, champion.version)
    sys.exit(1 if verdict and verdict["verdict"] == "surely below" else 0)


def _user() -> str:
    """Return the name of the user of this process, or the number of one without a name."""
    name = str(os.getuid())
    with suppress(KeyError):
        name = pwd.getpwuid(os.getuid()).pw_name
    return name
