"""Verbs for models: package, promote, roll back, list, explain, release."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cxr.cli.app import Device, Experiments, Models, app
from cxr.config import OperatingPoint


@app.command
def explain(
    *images: Path,
    name: str,
    models: Models = Path("models"),
    out: Path = Path("explanations"),
    target: Annotated[str | None, Parameter(name="--class")] = None,
    opacity: float = 0.5,
    device: Device = "auto",
    cache: Path = Path("cache"),
) -> None:
    """Show what the champion says of images, and where it looked (Grad-CAM); exit code 2 if a file is no image.

    Example: cxr explain image.jpeg --name pneumonia

    Args:
        images: JPEG, PNG or DICOM files.
        name: Name of the model.
        out: Folder for the pictures and explanations.parquet.
        target: The class that is asked for; by default the one that is called.
        opacity: Of the map where it is strongest, 0 to 1.
        cache: Folder for compiled kernels, as for `cxr score`; safe to delete.
    """
    from cxr.errors import ConfigError
    from cxr.storage.run_folder import ExplanationFolder

    if not images:
        raise ConfigError("name an image or more: cxr explain image.jpeg --name NAME.")
    from cxr.cli import tables
    from cxr.serving.explanations import explain_images
    from cxr.serving.registry import load_champion

    package, folder = load_champion(models, name), ExplanationFolder(out)
    table = explain_images(package, images, folder, target=target, opacity=opacity, device=device, cache=cache)
    tables.show_explanations(table, package, folder)
    if (table["status"] != "ok").any():
        sys.exit(2)


@app.command
def package(
    run: str,
    /,
    *,
    name: str,
    models: Models = Path("models"),
    experiments: Experiments = Path("experiments"),
    operating_point: OperatingPoint = "youden",
    promote: bool = False,
    onnx: bool = False,
    int8: bool = False,
) -> None:
    """Make a finished run the next version of a model: weights, calibration, thresholds, and a card, in one folder.

    Example: cxr package real64 --name pneumonia --promote

    Args:
        run: Run id, or path of the run's folder.
        name: Name of the model.
        operating_point: Which threshold calls an image positive: half (0.5), youden, sensitivity_95, or specificity_95.
        promote: Make it the champion as well, as `cxr promote` does.
        onnx: Write model.onnx as well, from uint8 squares to calibrated probabilities; needs the extra [onnx].
        int8: Write the layers in 8-bit integers as well, and score with them; refused if of 1,000 images the fold that
            never saw them moves more than 1 % by more than 0.01 in probability, or ROC-AUC by more than 0.001; needs
            the extra [onnx], and a processor with VNNI or AMX.
    """
    from cxr.storage.model_folder import ModelFolder
    from cxr.storage.run_folder import RunFolder

    folder, model = RunFolder.existing(run, experiments), ModelFolder.named(models, name)
    from cxr.cli import terminal
    from cxr.export.build import make_package
    from cxr.serving import registry
    from cxr.training.run import load_run

    with terminal.log_lines():
        made = make_package(load_run(folder), model, operating_point=operating_point, onnx=onnx, int8=int8)
        if promote:
            registry.promote(model, made.version)
    print(f"version  {made.version}")
    print(f"package  {made.path}")
    print(f"card     {made.card}")
    if registry.champion_version(model) != made.version:
        print(f"to let it score: cxr promote {name} {made.version}")


@app.command
def promote(name: str, version: str, /, *, models: Models = Path("models"), force: bool = False) -> None:
    """Make a version of a model its champion, unless the images that both were judged on show it worse.

    Example: cxr promote pneumonia 2

    Args:
        name: Name of the model.
        version: Version, as `cxr models` shows it.
        force: Promote a version that is shown worse, or cannot be compared.
    """
    from cxr.cli import terminal
    from cxr.serving import registry
    from cxr.storage.model_folder import ModelFolder

    with terminal.log_lines():
        verdict = registry.promote(ModelFolder.named(models, name), version, force=force)
    print(f"champion {name} {version}: {verdict}")


@app.command
def rollback(name: str, /, *, models: Models = Path("models")) -> None:
    """Make the champion before this one the champion again.

    Example: cxr rollback pneumonia

    Args:
        name: Name of the model.
    """
    from cxr.cli import terminal
    from cxr.serving import registry
    from cxr.storage.model_folder import ModelFolder

    with terminal.log_lines():
        version = registry.rollback(ModelFolder.named(models, name))
    print(f"champion {name} {version}")


@app.command
def models(*, models: Models = Path("models")) -> None:
    """Show every version of every model, and which are champions.

    Example: cxr models
    """
    from cxr.cli import tables
    from cxr.serving import registry

    tables.show_models(registry.list_models(models))


@app.command
def release(batch: str, /, *, out: Annotated[Path, Parameter(help="Folder of the scores.")] = Path("scores")) -> None:
    """Publish what the checks have held of a batch.

    Example: cxr release 2026-11-23

    Args:
        batch: The batch's folder in the inbox.
    """
    from cxr.cli import terminal
    from cxr.serving import scores
    from cxr.storage.scores_folder import ScoresFolder

    with terminal.log_lines():
        n_rows = scores.release(ScoresFolder.at(out), batch)
    print(f"published {n_rows} rows of batch {batch!r}")
