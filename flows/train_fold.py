"""Train-fold: one fold of a run that has begun, on whichever machine takes it."""

from pathlib import Path

from prefect import flow

from cxr.network.devices import resolve_device
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run
from tasks import training


@flow(name="train-fold", flow_run_name="{run.name}-fold-{fold}")
def train_fold(run: Path, fold: int, device: str = "auto") -> None:
    """Train a fold to its end, or resume it where it stopped; a complete fold is left as it is.

    Args:
        run: The run's folder, under the same path on every machine.
        fold: Number of the fold, from 0.
        device: auto, the first GPU that this process sees, or cpu.
    """
    begun = load_run(RunFolder.existing(str(run), run.parent))
    training.train_fold(begun, fold, resolve_device(device))
