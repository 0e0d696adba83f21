"""One fold, trained to its end: locked, trained or resumed, its held-out images predicted, marked as complete.

A kill at any moment only delays it: what is complete is not done again, and the training loop resumes its checkpoint.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any

import torch

from cxr.errors import RunError
from cxr.storage import events, files, verified
from cxr.training.fold.loop import FoldTrainer
from cxr.training.fold.memory import out_of_memory_as_run_error
from cxr.training.predictions import predict_fold
from cxr.training.provenance import code_provenance
from cxr.training.run import Run
from cxr.training.supervision import StopRequest

log = logging.getLogger(__name__)


def train_fold(run: Run, fold: int, device: str, stop: StopRequest | None = None) -> None:
    """Train a fold to its end and write its predictions, unless it is complete; resume it if it has begun.

    Args:
        run: the run.
        fold: number of the fold.
        device: cpu, or cuda:<index>.
        stop: polled after each batch; what was trained until then is kept.

    Raises:
        RunError: another process trains this fold, its checkpoint is damaged, or memory is too small for one image.
    """
    if not 0 <= fold < run.config.folds:
        raise RunError(f"run {run.folder.run_id} has folds 0 to {run.config.folds - 1}, got {fold}.")
    torch.set_num_threads(run.n_threads[fold])
    folder = run.fold_folder(fold)
    with files.locked(folder.lock, f"fold {fold} of run {run.folder.run_id}", patience_s=30):
        if run.is_complete(fold):
            log.info("fold %d: already complete", fold)
            return
        files.sweep(folder.path)
        start = time.monotonic()
        trainer = _train(run, fold, device, stop)
        difference = trainer.call(predict_fold, run, fold, device, trainer.views)
        facts = {
            "n_training_images": trainer.n_images,
            "largest_probability_difference": difference,
            "seconds": round(time.monotonic() - start, 1),
        }
        _mark_complete(run, fold, device, facts)
        verified.remove(folder.checkpoint)


def _train(run: Run, fold: int, device: str, stop: StopRequest | None) -> FoldTrainer:
    """Train a fold from its checkpoint, or from the start, to its end; write its weights."""
    folder = run.fold_folder(fold)
    with (
        out_of_memory_as_run_error(fold, device),
        events.stage(run.folder.events, "train", fold=fold, device=device) as stage,
    ):
        trainer = FoldTrainer(run, fold, device, stop)
        trainer.resume(folder)
        trainer.train(folder)
        trainer.finish(folder)
        stage.n_images = trainer.n_seen
    return trainer


def _mark_complete(run: Run, fold: int, device: str, facts: Mapping[str, Any]) -> None:
    """Write `complete.json`, the last of a fold's files, with the hash of the weights beside it."""
    folder = run.fold_folder(fold)
    verified.write_json(
        folder.complete,
        {
            "fold": fold,
            "share": run.share,
            "config_hash": run.config_hash,
            "weights_sha256": verified.sha256_of(folder.weights),
            "device": device,
            "n_threads": torch.get_num_threads(),
            **facts,
            "finished_at": files.now(),
            "code": code_provenance(),
        },
    )
