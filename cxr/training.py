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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from cxr import events, features, store
from cxr.augmentation import augment
from cxr.config import TrainConfig
from cxr.devices import uses_bf16
from cxr.errors import RunError
from cxr.experiment import Experiment, code_provenance
from cxr.inference import predict_fold
from cxr.layout import FoldFolder
from cxr.model import Classifier, load_pretrained, to_grey
from cxr.supervision import StopRequest

log = logging.getLogger(__name__)

P = ParamSpec("P")
Result = TypeVar("Result")

PRETRAINED_SHARE = 0.1
"""Learning rate of pretrained layers as a share of the head's: they are refined, not relearnt."""
WEIGHT_DECAY = 0.01
RESIDENT_BYTES = 2**30
"""Features up to this size are kept in memory, or on the device; larger ones are read batch by batch."""


def train_fold(run: Experiment, fold: int, device: str, stop: StopRequest | None = None) -> None:
    """Train a fold to its end and write its predictions, unless it is complete; resume what was begun.

    Args:
        run: the run.
        fold: number of the fold.
        device: cpu, or cuda:<index>.
        stop: is heeded after each batch; what was trained until then is kept.

    Raises:
        RunError: another process trains this fold, its checkpoint is damaged, or memory is too small for one film.
    """
    if not 0 <= fold < run.config.folds:
        raise RunError(f"run {run.folder.run_id} has folds 0 to {run.config.folds - 1}, got {fold}.")
    torch.set_num_threads(run.n_threads[fold])
    folder = run.fold_folder(fold)
    with store.locked(folder.lock, f"fold {fold} of run {run.folder.run_id}", patience_s=30):
        if folder.is_complete(run.config_hash):
            log.info("fold %d: complete already", fold)
            return
        store.sweep(folder.path)
        start = time.monotonic()
        with (
            _telling_of_memory(fold, device),
            events.stage(run.folder.events, "train", fold=fold, device=device) as stage,
        ):
            trainer = FoldTrainer(run, fold, device, stop)
            trainer.resume(folder)
            trainer.train(folder)
            trainer.finish(folder)
            stage.n_films = trainer.n_seen
        difference = trainer.call(predict_fold, run, fold, device)
        store.write_json(
            folder.complete,
            {
                "fold": fold,
                "config_hash": run.config_hash,
                "weights_sha256": hashlib.sha256(store.read_bytes(folder.weights)).hexdigest(),
                "device": device,
                "n_threads": torch.get_num_threads(),
                "n_training_films": trainer.n_films,
                "largest_probability_difference": difference,
                "seconds": round(time.monotonic() - start, 1),
                "finished_at": store.now(),
                "code": code_provenance(),
            },
        )
        folder.checkpoint.unlink(missing_ok=True)


class _SquareBatches:
    """Grey squares, kept on the device where they take at most half of its free memory, changed mildly there."""

    def __init__(self, run: Experiment, films: pd.DataFrame, device: str) -> None:
        squares = torch.from_numpy(run.squares(films))
        fits = device == "cpu" or squares.nbytes <= torch.cuda.mem_get_info(device)[0] / 2
        self._squares = squares.to(device) if fits else squares.pin_memory()
        self._config, self._device = run.config, device

    def take(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the films of a batch as grey values, shape (B, 1, H, W)."""
        squares = self._squares[batch.to(self._squares.device)].to(self._device, non_blocking=True)
        grey_B1HW = to_grey(squares)
        return augment(grey_B1HW, generator, flip=self._config.flip) if self._config.augment else grey_B1HW


class _FeatureBatches:
    """What the frozen layers gave; of each film one of its views, drawn anew in each epoch."""

    def __init__(self, run: Experiment, films: pd.DataFrame, device: str) -> None:
        features.extract(run, device)
        self._device, self._image_ids = device, films["image_id"].tolist()
        self._views = [features.open_features(run, view, device) for view in range(run.config.views)]
        self._resident: Tensor | None = None
        if len(films) * len(self._views) * self._views[0].n_bytes <= RESIDENT_BYTES:
            loaded = [torch.from_numpy(view.load(self._image_ids)) for view in self._views]
            self._resident = torch.stack(loaded).to(device)

    def take(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the films' features, shape (B, …)."""
        view = torch.randint(len(self._views), (len(batch),), generator=generator)
        if self._resident is not None:
            return self._resident[view.to(self._device), batch].float()
        drawn = zip(view.tolist(), batch.tolist(), strict=True)
        arrays = [self._views[v].load([self._image_ids[row]]) for v, row in drawn]
        return torch.from_numpy(np.concatenate(arrays)).to(self._device, torch.float32)


class FoldTrainer:
    """The state of a fold in training: everything that a checkpoint holds."""

    def __init__(self, run: Experiment, fold: int, device: str, stop: StopRequest | None = None) -> None:
        config = run.config
        films = run.training_films(fold)
        targets = [run.classes.index(label) for label in films["label"]]
        self.run, self.fold, self.device = run, fold, device
        self.stop = stop or StopRequest()
        self.n_films, self.epoch, self.history = len(films), 0, list[dict[str, Any]]()
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
        """Order of the films in the epoch that is under way, and the loss of each batch so far."""
        self.n_seen = 0
        model = Classifier(len(run.classes), load_pretrained(config.weights))
        self.model = model.to(device).to(memory_format=torch.channels_last)
        whole = config.trainable == "all"
        self.layers = self.model if whole else self.model.stages(config.trainable)[1]
        self.inputs = _SquareBatches(run, films, device) if whole else _FeatureBatches(run, films, device)
        self.optimiser, self.trained = make_optimiser(self.model, config)
        self.schedule = OneCycleLR(
            self.optimiser,
            max_lr=[group["lr"] for group in self.optimiser.param_groups],
            total_steps=config.epochs * self.steps_per_epoch,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Full batches an epoch; the fewer than `batch_size` films left over are others in each epoch."""
        return max(1, self.n_films // self.run.config.batch_size)

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
        """Make one pass over the training films, or the rest of one, or end in its midst when asked to stop."""
        start = time.monotonic()
        self.model.eval()  # what is frozen keeps its batch statistics
        for module in self.trained:
            module.train()
        if self.order is None:
            self.order = torch.randperm(self.n_films, generator=self.generator)
        batches = self.order.split(self.run.config.batch_size)[len(self.losses) : self.steps_per_epoch]
        for batch in batches:
            self.losses.append(self._step(batch.to(self.device)))
            self.n_seen += len(batch)
            if self.stop.is_made:
                break
        if len(self.losses) == self.steps_per_epoch:
            self._close_epoch(sum(map(len, batches)), time.monotonic() - start)

    def _close_epoch(self, n_films: int, seconds: float) -> None:
        """Note down the epoch; its films and seconds are those of its last stretch."""
        row = {
            "epoch": self.epoch + 1,
            "training_loss": torch.stack(self.losses).mean().item(),
            "learning_rate": self.schedule.get_last_lr()[0],
            "seconds": seconds,
            "films_per_s": n_films / seconds,
        }
        self.epoch, self.order, self.losses = self.epoch + 1, None, []
        self.history.append(row)
        log.info(
            "fold %d: epoch %d of %d, loss %.4f, %.0f films/s",
            self.fold, self.epoch, self.run.config.epochs, row["training_loss"], row["films_per_s"],
            extra={"bar": f"fold {self.fold}", "done": self.epoch, "of": self.run.config.epochs},
        )  # fmt: skip

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
                if not _is_out_of_memory(error) or self.micro_batch == 1:
                    raise
            self.optimiser.zero_grad(set_to_none=True)
            if self.device != "cpu":
                torch.cuda.empty_cache()
            self.micro_batch = (min(self.micro_batch, len(x_B)) + 1) // 2
            log.warning(
                "fold %d: out of memory; each batch of %d films goes through in parts of %d from now on",
                self.fold, self.run.config.batch_size, self.micro_batch,
            )  # fmt: skip

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
        with store.replacing(folder.checkpoint) as temporary:
            temporary.write_bytes(written.getbuffer())

    def resume(self, folder: FoldFolder) -> None:
        """Take up the checkpoint if there is one of this config."""
        if not folder.checkpoint.exists():
            return
        try:
            written = io.BytesIO(store.read_bytes(folder.checkpoint))
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
        with store.replacing(folder.weights) as temporary:
            temporary.write_bytes(save(weights))
        store.write_table(folder.epochs, pd.DataFrame(self.history).assign(fold=self.fold))


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error is a GPU's, Python's, torch's or oneDNN's way of saying that memory is too small.

    The last of torch's is about a checkpoint, which is written into memory first.
    """
    said = ("can't allocate memory", "could not create a primitive", "bad_alloc", "inline_container.cc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in said)


@contextmanager
def _telling_of_memory(fold: int, device: str) -> Iterator[None]:
    """Turn what is left of running out of memory into one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise RunError(
            f"fold {fold} ran out of memory on {device}, even with batches in parts: free some, or let fewer folds "
            "run at a time (--folds-per-device 1); what was trained is kept."
        ) from error


def class_weights(targets: Sequence[int], n_classes: int) -> list[float]:
    """Return n / (n_classes · n of the class) for each class: rare classes weigh more, the mean film 1.

    Args:
        targets: class index of each training film.

    Source: King & Zeng 2001; scikit-learn's class_weight="balanced".
    """
    counts = Counter(targets)
    return [len(targets) / (n_classes * counts[index]) for index in range(n_classes)]


def make_optimiser(model: Classifier, config: TrainConfig) -> tuple[AdamW, Sequence[torch.nn.Module]]:
    """Return AdamW over the trained parameters, head first, and the trained modules; freeze all others."""
    share = 1.0 if config.weights == "none" else PRETRAINED_SHARE
    parts = model.trained_parts(config.trainable)
    model.requires_grad_(False)
    groups = []
    for modules, rate in ((parts["head"], config.learning_rate), (parts["trunk"], config.learning_rate * share)):
        parameters = [p.requires_grad_() for module in modules for p in module.parameters()]
        if parameters:
            groups.append({"params": parameters, "lr": rate})
    return AdamW(groups, weight_decay=WEIGHT_DECAY, fused=True), [*parts["head"], *parts["trunk"]]
