"""The core's command line, `python -m cxr`: what needs no Prefect. The `cxr` command adds the flows.

Imports of torch stay inside the commands, behind the first look at what was typed: `--help` and a
misspelt run are answered at once.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cxr import __version__

HELP = """Cross-validated chest X-ray classification as a batch pipeline.

Academic and research use only; not a medical device.
"""
app = App(name="cxr", help=HELP, version=__version__, result_action="return_value")

Experiments = Annotated[Path, Parameter(help="Folder that holds all runs.")]
Device = Annotated[str, Parameter(help="cpu, cuda:<index>, or auto: a GPU if there is one.")]


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
    from cxr.store import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr import experiment, supervision, terminal
    from cxr.devices import resolve_devices
    from cxr.training import train_fold

    with supervision.reporting_to_parent() if supervised else terminal.log_lines():
        begun = experiment.load(folder)
        train_fold(begun, fold, resolve_devices(device, begun.config)[0])


@app.command
def evaluate(run: str, /, *, device: Device = "auto", experiments: Experiments = Path("experiments")) -> None:
    """Predict every held-out film anew from the folds' weights and rewrite every table; nothing is trained.

    Example: cxr evaluate real64

    Args:
        run: Run id, or path of the run's folder.
    """
    from cxr.store import RunFolder

    folder = RunFolder.existing(run, experiments)
    from cxr import evaluation, experiment, store, terminal
    from cxr.devices import resolve_devices
    from cxr.inference import predict_fold

    with terminal.log_lines(), store.locked(folder.lock, f"run {folder.run_id}"):
        begun = experiment.load(folder)
        evaluation.require_complete(begun)
        for fold in range(begun.config.folds):
            predict_fold(begun, fold, resolve_devices(device, begun.config)[0])
        evaluation.evaluate(begun)
    terminal.show_results(folder)


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


if __name__ == "__main__":
    from cxr.terminal import run_command

    run_command(app)
