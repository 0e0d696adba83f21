"""The core's command line, `python -m cxr`: what needs neither Prefect nor Great Expectations.

The `cxr` command has the same verbs, `train` as a flow, and adds those that judge data with Great Expectations.

Imports of torch stay inside the commands, behind the first look at what was typed: `--help` and a
misspelt run are answered at once.
"""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cxr import __version__
from cxr.config import OperatingPoint, Placement, TrainConfig

HELP = """Cross-validated chest X-ray classification as a batch pipeline.

Academic and research use only; not a medical device.
"""
app = App(name="cxr", help=HELP, version=__version__, result_action="return_value")

Experiments = Annotated[Path, Parameter(help="Folder that holds all runs, or a URL such as s3://bucket/runs.")]
Models = Annotated[Path, Parameter(help="Folder that holds all models.")]
Device = Annotated[str, Parameter(help="cpu, cuda:<index>, or auto: a GPU if there is one.")]


def train(
    *,
    config: Annotated[TrainConfig, Parameter(name="*")],
    place: Annotated[Placement, Parameter(name="*")] = Placement(),  # noqa: B008 it is frozen
) -> None:
    """Cross-validate a ResNet-50 on a folder of chest X-rays, without Prefect and without the data checks.

    Run folder and tables are those of `cxr train`; Prefect and Great Expectations need not be installed.
    Typed again after a kill, it goes on where it stopped.

    Example: python -m cxr train --data chest_xray.zip --run-id first
    """
    from cxr import terminal
    from cxr.source import open_source

    open_source(config.data)  # what is misspelt is told before the libraries are loaded
    from cxr.cross_validation import cross_validate

    terminal.stop_on_signals()
    with terminal.log_lines():
        folder = cross_validate(config, place)
    terminal.show_results(folder)


@app.command
def train_fold(
    run: str, fold: int, /, *, device: Device = "auto", experiments: Experiments = Path("experiments"),
    supervised: Annotated[bool, Parameter(show=False)] = False,
) -> None:  # fmt: skip
    """Train one fold of a run that `cxr train` began; resume it where it stopped.

    Example: cxr train-fold real64 3

    Args:
        run: Run id, or path of the run's folder.
        fold: Number of the fold, from 0.
    """
    from cxr.layout import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr import experiment, supervision, terminal
    from cxr.devices import keep_freed_memory, resolve_device
    from cxr.training import train_fold

    keep_freed_memory()
    stop = supervision.StopRequest()
    stop.listen()
    with supervision.reporting_to_parent() if supervised else terminal.log_lines():
        begun = experiment.load(folder)
        train_fold(begun, fold, resolve_device(device), stop)


@app.command
def evaluate(run: str, /, *, device: Device = "auto", experiments: Experiments = Path("experiments")) -> None:
    """Predict every held-out film anew from the folds' weights and rewrite every table; nothing is trained.

    Example: cxr evaluate real64

    Args:
        run: Run id, or path of the run's folder.
    """
    from cxr.layout import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr import evaluation, experiment, store, terminal
    from cxr.devices import resolve_device
    from cxr.inference import predict_fold

    with terminal.log_lines(), store.locked(folder.lock, f"run {folder.run_id}"):
        begun = experiment.load(folder)
        evaluation.require_complete(begun)
        for fold in range(begun.config.folds):
            predict_fold(begun, fold, resolve_device(device))
        evaluation.evaluate(begun)
    terminal.show_results(folder)


@app.command
def report(
    run: str, /, *, open_test: bool = False, external: tuple[str, ...] = (),
    experiments: Experiments = Path("experiments"),
) -> None:  # fmt: skip
    """Write a finished run's report anew: one HTML file, its figures, and every figure's numbers.

    Example: cxr report real64 --open-test

    Args:
        run: Run id, or path of the run's folder.
        open_test: Judge the films that --holdout has kept out, once; each opening is written down.
        external: Folder or zip of an outside set, laid out as for training, to be judged as well.
    """
    from cxr.layout import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr import experiment, sealed_test, store, terminal
    from cxr.report import write_report

    with terminal.log_lines(), store.locked(folder.lock, f"run {folder.run_id}"):
        finished = experiment.load(folder)
        if open_test:
            sealed_test.open_sealed_test(finished)
        for data in external:
            sealed_test.judge_external(finished, data)
        path = write_report(finished)
    print(f"report   {path}")
    print(f"figures  {folder.figures}")


@app.command
def stress(
    run: str,
    /,
    *,
    films: int = 400,
    seed: int = 0,
    device: Device = "auto",
    experiments: Experiments = Path("experiments"),
) -> None:
    """Judge held-out films that are made worse (blur, noise, contrast, JPEG, rotation); write the run's report anew.

    Example: cxr stress real64

    Args:
        run: Run id, or path of the run's folder.
        films: At most so many films, drawn at random, each class by its share; each is judged 21 times.
        seed: The same seed draws the same films, noise and turns.
    """
    from cxr.layout import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr import experiment, store, terminal
    from cxr.devices import resolve_device
    from cxr.report import write_report
    from cxr.stress import stress

    with terminal.log_lines(), store.locked(folder.lock, f"run {folder.run_id}"):
        finished = experiment.load(folder)
        table = stress(finished, n_films=films, seed=seed, device=resolve_device(device))
        path = write_report(finished)
    terminal.show_stress(table, finished.classes)
    print(f"table    {folder.appraisal('stress')}")
    print(f"report   {path}")


@app.command
def learning_curve(
    run: str, /, *, share: tuple[float, ...] = (0.25, 0.5), device: Device = "auto",
    experiments: Experiments = Path("experiments"),
) -> None:  # fmt: skip
    """Train a finished run again on shares of its patients, to see if more films would help; write its report anew.

    Takes as long as training the shares does: seconds for a head on a frozen trunk. Typed again after a kill, it
    goes on where it stopped.

    Example: cxr learning-curve real64 --share 0.1 --share 0.5

    Args:
        run: Run id, or path of the run's folder.
        share: Of each fold's training patients, above 0 and below 1.
    """
    from cxr.layout import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr import experiment, store, terminal
    from cxr.devices import keep_freed_memory, resolve_device
    from cxr.learning import learning_curve
    from cxr.report import write_report

    keep_freed_memory()
    with terminal.log_lines(), store.locked(folder.lock, f"run {folder.run_id}"):
        finished = experiment.load(folder)
        table = learning_curve(finished, share, device=resolve_device(device))
        path = write_report(finished)
    terminal.show_learning_curve(table, finished.classes)
    print(f"table    {folder.appraisal('learning_curve')}")
    print(f"report   {path}")


@app.command
def mlflow(run: str, /, *, store: str = "sqlite:///mlflow.db", experiments: Experiments = Path("experiments")) -> None:
    """Log a finished run to MLflow: params, metrics, tables and report, and in it a nested run for each fold.

    Needs the extra [mlflow]. Look at it with `mlflow ui --backend-store-uri sqlite:///mlflow.db`.

    Example: cxr mlflow real64

    Args:
        run: Run id, or path of the run's folder.
        store: sqlite:///FILE, artifacts in the folder mlartifacts beside it; or the http address of a server.
    """
    from cxr.layout import RunFolder
    from cxr.tracking import log_run, require_mlflow

    folder = RunFolder.existing(run, experiments)
    require_mlflow(store)
    from cxr import experiment, terminal

    with terminal.log_lines():
        logged = log_run(experiment.load(folder), store)
    print(f"MLflow   {logged} in {store}")


@app.command
def explain(
    *images: Path, name: str, models: Models = Path("models"), out: Path = Path("explanations"),
    target: Annotated[str | None, Parameter(name="--class")] = None, opacity: float = 0.5, device: Device = "auto",
    cache: Path = Path("cache"),
) -> None:  # fmt: skip
    """Show what the champion says of films, and where it looked (Grad-CAM); exit code 2 if a file is no film.

    Example: cxr explain film.jpeg --name pneumonia

    Args:
        images: JPEG, PNG or DICOM files.
        name: Name of the model.
        out: Folder for the pictures and explanations.parquet.
        target: The class that is asked for; by default the one that is called.
        opacity: Of the map where it is strongest, 0 to 1.
        cache: Folder for compiled kernels, as for `cxr score`; safe to delete.
    """
    from cxr.errors import ConfigError
    from cxr.layout import ExplanationFolder

    if not images:
        raise ConfigError("name a film or more: cxr explain film.jpeg --name NAME.")
    from cxr import terminal
    from cxr.explaining import explain_films
    from cxr.registry import load_champion

    package, folder = load_champion(models, name), ExplanationFolder(out)
    table = explain_films(package, images, folder, target=target, opacity=opacity, device=device, cache=cache)
    terminal.show_explanations(table, package, folder)
    if (table["status"] != "ok").any():
        sys.exit(2)


@app.command
def compare(
    first: str, second: str, /, *more: str, experiments: Experiments = Path("experiments"), out: Path | None = None
) -> None:
    """Compare finished runs on the films that all have judged: paired differences, and which films changed sides.

    Example: cxr compare real64 real96

    Args:
        first: Run id, or path of a run's folder; the others are compared with it.
        second: Another run.
        more: Further runs.
        out: Folder for the two tables; by default comparisons/<first>_<second>…
    """
    from cxr.layout import ComparisonFolder, RunFolder

    runs = [RunFolder.existing(run, experiments) for run in (first, second, *more)]
    from cxr import comparison, terminal

    compared = comparison.compare(runs)
    folder = ComparisonFolder(out or Path("comparisons") / "_".join(run.run_id for run in runs))
    comparison.write_comparison(folder, compared)
    terminal.show_comparison(compared)
    print(f"tables   {folder.metrics}")
    print(f"         {folder.changed_films}")


@app.command
def sample(out: Path, /, *, films: int = 400, seed: int = 0) -> None:
    """Draw a synthetic data set in the Kaggle set's layout and naming, to try everything without real films.

    Example: cxr sample films --films 400 --seed 0

    Args:
        out: Folder to make; it must not exist, or be empty.
        films: Number of image files, 40 or more.
        seed: The same seed draws the same files.
    """
    from cxr.synthetic import draw_films

    draw_films(out, n_films=films, seed=seed)
    print(f"{films} synthetic films in {out}")


@app.command
def package(
    run: str, /, *, name: str, models: Models = Path("models"), experiments: Experiments = Path("experiments"),
    operating_point: OperatingPoint = "youden", promote: bool = False, onnx: bool = False, int8: bool = False,
) -> None:  # fmt: skip
    """Make a finished run the next version of a model: weights, calibration, thresholds, and a card, in one folder.

    Example: cxr package real64 --name pneumonia --promote

    Args:
        run: Run id, or path of the run's folder.
        name: Name of the model.
        operating_point: Which threshold calls a film positive: half (0.5), youden, sensitivity_95, or specificity_95.
        promote: Make it the champion as well, as `cxr promote` does.
        onnx: Write model.onnx as well, from uint8 squares to calibrated probabilities; needs the extra [onnx].
        int8: Write the layers in 8-bit integers as well, and score with them; refused if of 1,000 films the fold that
            never saw them moves more than 1 % by more than 0.01 in probability, or ROC-AUC by more than 0.001; needs
            the extra [onnx], and a processor with VNNI or AMX.
    """
    from cxr.layout import ModelFolder, RunFolder

    folder, model = RunFolder.existing(run, experiments), ModelFolder.named(models, name)
    from cxr import experiment, registry, terminal
    from cxr.packaging import make_package

    with terminal.log_lines():
        made = make_package(experiment.load(folder), model, operating_point=operating_point, onnx=onnx, int8=int8)
        if promote:
            registry.promote(model, made.version)
    print(f"version  {made.version}")
    print(f"package  {made.path}")
    print(f"card     {made.card}")
    if registry.champion_version(model) != made.version:
        print(f"to let it score: cxr promote {name} {made.version}")


@app.command
def promote(name: str, version: str, /, *, models: Models = Path("models"), force: bool = False) -> None:
    """Make a version of a model its champion, unless the films that both were judged on show it worse.

    Example: cxr promote pneumonia 2

    Args:
        name: Name of the model.
        version: Version, as `cxr models` shows it.
        force: Promote a version that is shown worse, or cannot be compared.
    """
    from cxr import registry, terminal
    from cxr.layout import ModelFolder

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
    from cxr import registry, terminal
    from cxr.layout import ModelFolder

    with terminal.log_lines():
        version = registry.rollback(ModelFolder.named(models, name))
    print(f"champion {name} {version}")


@app.command
def runs(*, experiments: Experiments = Path("experiments")) -> None:
    """Show every run with its pooled out-of-fold metrics, in percent.

    Example: cxr runs
    """
    from cxr import evaluation, terminal

    terminal.show_runs(evaluation.list_runs(experiments))


@app.command
def models(*, models: Models = Path("models")) -> None:
    """Show every version of every model, and which are champions.

    Example: cxr models
    """
    from cxr import registry, terminal

    terminal.show_models(registry.list_models(models))


@app.command
def release(batch: str, /, *, out: Annotated[Path, Parameter(help="Folder of the scores.")] = Path("scores")) -> None:
    """Publish what the checks have held of a batch.

    Example: cxr release 2026-11-23

    Args:
        batch: The batch's folder in the inbox.
    """
    from cxr import scores, terminal
    from cxr.layout import ScoresFolder

    with terminal.log_lines():
        n_rows = scores.release(ScoresFolder(out.expanduser().resolve()), batch)
    print(f"published {n_rows} rows of batch {batch!r}")


if __name__ == "__main__":
    from cxr.terminal import run_command

    app.command(train)  # under the name `cxr train` it is a Prefect flow
    run_command(app)
