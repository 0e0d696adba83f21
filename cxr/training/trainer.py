"""Training of one fold, which a kill at any moment only delays.

Fixed epoch budget, last weights: nothing is chosen on the fold that is held out. Class weights come from
the training folds alone. After every epoch, and in the midst of one when it is asked to stop, the model,
optimiser, schedule and random state are written in one step; a fold that is started again goes on from
there and, on a CPU with as many threads, ends with the same weights bit for bit.
"""

import hashlib
import io
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from cxr.errors import RunError
from cxr.network.devices import uses_bf16
from cxr.network.resnet import Classifier, load_pretrained
from cxr.storage import events, files
from cxr.storage.run_folder import FoldFolder
from cxr.training.batches import FeatureBatches, SquareBatches
from cxr.training.memory import is_out_of_memory, out_of_memory_as_run_error
from cxr.training.optimiser import class_weights, make_optimiser
from cxr.training.predictions import predict_fold
from cxr.training.provenance import code_provenance
from cxr.training.run import Run
from cxr.training.supervision import StopRequest

log = logging.getLogger(__name__)

P = ParamSpec("P")
Result = TypeVar("Result")


def train_fold(run: Run, fold: int, device: str, stop: StopRequest | None = None) -> None:
    """Train a fold to its end and write its predictions, unless it is complete; resume what was begun.

    Args:
        run: the run.
        fold: number of the fold.
        device: cpu, or cuda:<index>.
        stop: is heeded after each batch; what was trained until then is kept.

    Raises:
        RunError: another process trains this fold, its checkpoint is damaged, or memory is too small for one image.
    """
    if not 0 <= fold < run.config.folds:
        raise RunError(f"run {run.folder.run_id} has folds 0 to {run.config.folds - 1}, got {fold}.")
    torch.set_num_threads(run.n_threads[fold])
    folder = run.fold_folder(fold)
    with files.locked(folder.lock, f"fold {fold} of run {run.folder.run_id}", patience_s=30):
        if folder.is_complete(run.config_hash):
            log.info("fold %d: complete already", fold)
            return
        files.sweep(folder.path)
        start = time.monotonic()
        with (
            out_of_memory_as_run_error(fold, device),
            events.stage(run.folder.events, "train", fold=fold, device=device) as stage,
        ):
            trainer = FoldTrainer(run, fold, device, stop)
            trainer.resume(folder)
            trainer.train(folder)
            trainer.finish(folder)
            stage.n_images = trainer.n_seen
        difference = trainer.call(predict_fold, run, fold, device)
        files.write_json(
            folder.complete,
            {
                "fold": fold,
                "config_hash": run.config_hash,
                "weights_sha256": hashlib.sha256(files.read_bytes(folder.weights)).hexdigest(),
                "device": device,
                "n_threads": torch.get_num_threads(),
                "n_training_images": trainer.n_images,
                "largest_probability_difference": difference,
                "seconds": round(time.monotonic() - start, 1),
                "finished_at": files.now(),
                "code": code_provenance(),
            },
        )
        folder.checkpoint.unlink(missing_ok=True)


class FoldTrainer:
    """The state of a fold in training: everything that a checkpoint holds."""

    def __init__(self, run: Run, fold: int, device: str, stop: StopRequest | None = None) -> None:
        config = run.config
        images = run.training_images(fold)
        targets = [run.classes.index(label) for label in images["label"]]
        self.run, self.fold, self.device = run, fold, device
        self.stop = stop or StopRequest()
        self.n_images, self.epoch, self.history = len(images), 0, list[dict[str, Any]]()
        self.targets = torch.tensor(targets, device=device)
        self.class_weight = torch.tensor(class_weights(targets, len(run.classes)), dtype=torch.float32, device=device)
        bf16 = uses_bf16(config.precision, device) and config.trainable != "head"  # one small layer gains nothing
        self.amp = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16)
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first call
            torch.use_deterministic_algorithms(True)
        if config.precision == "fp32":
            torch.backends.cudnn.allow_tf32 = False
        torch.manual_seed(config.seed * 1000 + fold)
        self.generator = torch.Generator().manual_seed(config.seed * 1000 + fold)
        self.micro_batch = config.batch_size
        self.order: Tensor | None = None
        self.losses: list[Tensor] = []
        """Order of the images in the epoch that is under way, and the loss of each batch so far."""
        self.n_seen = 0
        model = Classifier(len(run.classes), load_pretrained(config.weights))
        self.model = model.to(device).to(memory_format=torch.channels_last)
        whole = config.trainable == "all"
        self.layers = self.model if whole else self.model.stages(config.trainable)[1]
        self.inputs = SquareBatches(run, images, device) if whole else FeatureBatches(run, images, device)
        self.optimiser, self.trained = make_optimiser(self.model, config)
        self.schedule = OneCycleLR(
            self.optimiser,
            max_lr=[group["lr"] for group in self.optimiser.param_groups],
            total_steps=config.epochs * self.steps_per_epoch,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Full batches an epoch; the fewer than `batch_size` images left over are others in each epoch."""
        return max(1, self.n_images // self.run.config.batch_size)

    @property
    def progress(self) -> str:
        """How far training is, in words."""
        begun = f" and {len(self.losses)} of {self.steps_per_epoch} batches" if self.losses else ""
        return f"epoch {self.epoch}{begun}"

    def train(self, folder: FoldFolder) -> None:
        """Make every pass that is left, each written down; end the process if it is asked to stop."""
        with self.stop.minded():
            while self.epoch < self.run.config.epochs and not self.stop.is_made:
                self.train_epoch()
                self.save(folder)
        if self.stop.is_made:
            log.warning("fold %d: stopped after %s, which is kept", self.fold, self.progress)
        self.stop.obey()

    def train_epoch(self) -> None:
        """Make one pass over the training images, or the rest of one, or end in its midst when asked to stop."""
        start = time.monotonic()
        self.model.eval()  # what is frozen keeps its batch statistics
        for module in self.trained:
            module.train()
        if self.order is None:
            self.order = torch.randperm(self.n_images, generator=self.generator)
        batches = self.order.split(self.run.config.batch_size)[len(self.losses) : self.steps_per_epoch]
        for batch in batches:
            self.losses.append(self._step(batch.to(self.device)))
            self.n_seen += len(batch)
            if self.stop.is_made:
                break
        if len(self.losses) == self.steps_per_epoch:
            self._close_epoch(sum(map(len, batches)), time.monotonic() - start)

    def _close_epoch(self, n_images: int, seconds: float) -> None:
        """Note down the epoch; its images and seconds are those of its last stretch."""
        row = {
            "epoch": self.epoch + 1,
            "training_loss": torch.stack(self.losses).mean().item(),
            "learning_rate": self.schedule.get_last_lr()[0],
            "seconds": seconds,
            "images_per_s": n_images / seconds,
        }
        self.epoch, self.order, self.losses = self.epoch + 1, None, []
        self.history.append(row)
        log.info(
            "fold %d: epoch %d of %d, loss %.4f, %.0f images/s",
            self.fold,
            self.epoch,
            self.run.config.epochs,
            row["training_loss"],
            row["images_per_s"],
            extra={"bar": f"fold {self.fold}", "done": self.epoch, "of": self.run.config.epochs},
        )

    def _step(self, batch: Tensor) -> Tensor:
        x_B = self.inputs.take(batch, self.generator)
        loss = self._accumulate(x_B, self.targets[batch])
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        return loss

    def call(self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Return what `work` returns; once memory was too small, from a thread of its own.

        A thread in which oneDNN did not get the memory that it asked for asks for as much again, whatever it does.
        """
        if self.micro_batch == self.run.config.batch_size:
            return work(*args, **kwargs)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(work, *args, **kwargs).result()

    def _accumulate(self, x_B: Tensor, targets_B: Tensor) -> Tensor:
        """Return the batch's loss, its gradients in place; in ever smaller parts where memory is too small."""
        while True:
            try:
                return self.call(self._backward, x_B, targets_B)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.micro_batch == 1:
                    raise
            self.optimiser.zero_grad(set_to_none=True)
            if self.device != "cpu":
                torch.cuda.empty_cache()
            self.micro_batch = (min(self.micro_batch, len(x_B)) + 1) // 2
            log.warning(
                "fold %d: out of memory; each batch of %d images goes through in parts of %d from now on",
                self.fold,
                self.run.config.batch_size,
                self.micro_batch,
            )

    def _backward(self, x_B: Tensor, targets_B: Tensor) -> Tensor:
        """Return the mean loss of a batch, by class weight; its gradients are the same however it is parted.

        Batch norm, where it is trained, takes its statistics from each part.
        """
        loss, total = torch.zeros((), device=self.device), self.class_weight[targets_B].sum()
        for x, targets in zip(x_B.split(self.micro_batch), targets_B.split(self.micro_batch), strict=True):
            with self.amp:
                logits = self.layers(x)
            part = F.cross_entropy(logits.float(), targets, weight=self.class_weight, reduction="sum") / total
            part.backward()
            loss += part.detach()
        return loss

    def save(self, folder: FoldFolder) -> None:
        """Write the checkpoint in one step."""
        state = {
            "config_hash": self.run.config_hash,
            "epoch": self.epoch,
            "history": self.history,
            "layers": self.layers.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "order": self.order,
            "losses": [loss.cpu() for loss in self.losses],
        }
        written = io.BytesIO()
        torch.save(state, written)  # into a file of its own torch would not tell that the disk is full
        with files.replacing(folder.checkpoint) as temporary:
            temporary.write_bytes(written.getbuffer())

    def resume(self, folder: FoldFolder) -> None:
        """Take up the checkpoint if there is one of this config."""
        if not folder.checkpoint.exists():
            return
        try:
            written = io.BytesIO(files.read_bytes(folder.checkpoint))
            state = torch.load(written, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError, … on damaged files
            raise RunError(
                f"the checkpoint of fold {self.fold} is damaged ({type(error).__name__}): give --redo-fold {self.fold}."
            ) from error
        if state["config_hash"] != self.run.config_hash:
            return
        self.epoch, self.history = state["epoch"], state["history"]
        self.layers.load_state_dict(state["layers"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        self.order = state["order"]
        self.losses = [loss.to(self.device) for loss in state["losses"]]
        log.info("fold %d: taken up again after %s", self.fold, self.progress)

    def finish(self, folder: FoldFolder) -> None:
        """Write the weights and the training curve."""
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        with files.replacing(folder.weights) as temporary:
            temporary.write_bytes(save(weights))
        files.write_table(folder.epochs, pd.DataFrame(self.history).assign(fold=self.fold))
