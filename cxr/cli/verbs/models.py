"""Verbs for models: package, recalibrate, promote, roll back, list, explain, release."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cxr.cli import groups
from cxr.cli.app import Device, Experiments, Json, Models, app
from cxr.cli.terminal import say
from cxr.config import OperatingPoint
from cxr.labelling import LabelTables

if TYPE_CHECKING:
    from cxr.storage.model_folder import ModelFolder, PackageFolder


@app.command(group=groups.MODELS)
def package(
    run: str,
    /,
    *,
    name: str,
    models: Models = Path("models"),
    experiments: Experiments = Path("experiments"),
    operating_point: OperatingPoint = "youden",
    prevalence: float | None = None,
    refer: float | None = None,
    promote: bool = False,
    onnx: bool = False,
    int8: bool = False,
) -> None:
    """Package a finished run as the next version of a model: weights, calibration, thresholds and a card in a folder.

    With `push` or `pull` in the place of a run, copy a version to another place, or take one up from there.

    Example: cxr package real64 --name pneumonia --promote

    Args:
        run: Run id, or path of the run's folder; of a run called push or pull, its path.
        name: Name of the model.
        operating_point: The threshold for a positive prediction: half (0.5), balanced, youden, sensitivity_95 or
            specificity_95.
        prevalence: How frequent the positive class is where the model will be used, between 0 and 1; by default as
            frequent as among the run's images.
        refer: Share of each class that may be wrongly excluded, above 0 and at most 0.5, such as 0.1: an image that
            fits exactly one class gets it as answer, others the answer refer. By default there is no such answer.
        promote: Also make it the champion, as `cxr promote` does.
        onnx: Also write model.onnx, from uint8 squares to calibrated probabilities; needs the extra [onnx].
        int8: Score in 8-bit integers, with calibration and thresholds of their own. Refused unless they are shown, on
            the held-out images, to lower ROC-AUC by at most 0.002, and sensitivity and specificity by at most half a
            point. Needs the extra [int8], and a processor with VNNI or AMX, here and wherever it scores.
    """
    from cxr.storage.model_folder import ModelFolder
    from cxr.storage.run_folder import RunFolder

    folder = RunFolder.existing(run, experiments)
    model = ModelFolder.named(models, name)
    from cxr.cli import terminal
    from cxr.export.build import make_package
    from cxr.serving import registry
    from cxr.training.run import load_run

    with terminal.log_lines():
        made = make_package(
            load_run(folder),
            model,
            operating_point=operating_point,
            prevalence=prevalence,
            refer=refer,
            onnx=onnx,
            int8=int8,
        )
        if promote:
            registry.promote(model, made.version)
    say_made(model, made)


def say_made(model: "ModelFolder", made: "PackageFolder") -> None:
    """Say which version was made, where it is, and how to score with it."""
    from cxr.serving import registry

    say(f"version  {made.version}")
    say(f"package  {made.path}")
    say(f"card     {made.card}")
    if registry.champion_version(model) != made.version:
        say(f"to score with it: cxr promote {model.name} {made.version}")


@app.command(group=groups.MODELS)
def recalibrate(
    name: str,
    /,
    *,
    labelling: Annotated[LabelTables, Parameter(name="*")] = LabelTables(),  # noqa: B008 it is frozen
    version: str | None = None,
    images: Path | None = None,
    operating_point: OperatingPoint | None = None,
    prevalence: float | None = None,
    promote: bool = False,
    models: Models = Path("models"),
    device: Device = "auto",
    cache: Path = Path("cache"),
    json: Json = False,
) -> None:
    """Fit a model's calibration and thresholds to a few labelled images of another site, as its next version.

    The networks stay as they are. Each class needs 5 patients or more; images that the model was made from are left
    out.

    Example: cxr recalibrate pneumonia --labels site.csv

    Args:
        name: Name of the model.
        version: Version to start from; by default the champion.
        images: Folder or archive that holds the images; by default the folder of the first table.
        operating_point: The threshold for a positive prediction, as for `cxr package`; by default the version's own.
        prevalence: How frequent the positive class is at the site, between 0 and 1, if the labelled images were not
            taken as they came; by default as frequent as among them.
        promote: Also make it the champion, as `cxr promote` does.
        cache: Folder for compiled kernels, as for `cxr score`; safe to delete.
    """
    from cxr.storage.model_folder import ModelFolder

    model = ModelFolder.named(models, name)
    from cxr.cli import documents, model_results, terminal
    from cxr.recalibration.recalibrate import recalibrate_model
    from cxr.serving import registry

    with terminal.log_lines():
        start = registry.load_version(models, name, version)
        made = recalibrate_model(
            model,
            start,
            labelling,
            images=images,
            operating_point=operating_point,
            prevalence=prevalence,
            device=device,
            cache=cache,
        )
        if promote:
            registry.promote(model, made.version)
    (documents if json else model_results).show_recalibration(registry.load_version(models, name, made.version))
    if not json:
        say_made(model, made)


@app.command(group=groups.MODELS)
def promote(name: str, version: str, /, *, models: Models = Path("models"), force: bool = False) -> None:
    """Make a version of a model its champion, unless it is shown to be worse on the images that both have predicted.

    Example: cxr promote pneumonia 2

    Args:
        name: Name of the model.
        version: Version, as `cxr models` shows it.
        force: Promote a version even if it is shown to be worse, or cannot be compared.
    """
    from cxr.cli import terminal
    from cxr.serving import registry
    from cxr.storage.model_folder import ModelFolder

    with terminal.log_lines():
        verdict = registry.promote(ModelFolder.named(models, name), version, force=force)
    say(f"champion {name} {version}: {verdict}")


@app.command(group=groups.MODELS)
def rollback(name: str, /, *, models: Models = Path("models")) -> None:
    """Make the previous champion the champion again.

    Example: cxr rollback pneumonia

    Args:
        name: Name of the model.
    """
    from cxr.cli import terminal
    from cxr.serving import registry
    from cxr.storage.model_folder import ModelFolder

    with terminal.log_lines():
        version = registry.rollback(ModelFolder.named(models, name))
    say(f"champion {name} {version}")


@app.command(group=groups.MODELS)
def models(*, models: Models = Path("models"), json: Json = False) -> None:
    """Show every version of every model, and which one is the champion.

    Example: cxr models
    """
    from cxr.cli import documents, model_results
    from cxr.serving import registry

    (documents if json else model_results).show_models(registry.list_models(models))
