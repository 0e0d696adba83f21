"""Training of one fold, which a kill at any moment only delays.

Fixed epoch budget, last weights: nothing is chosen on the fold that is held out. Class weights come from
the training folds alone. After every epoch the model, optimiser, schedule and random state are written in
one step; a fold that is started again goes on from there and, on a CPU with as many threads, ends with
the same weights bit for bit.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from cxr import store
from cxr.augmentation import augment
from cxr.config import Precision, TrainConfig
from cxr.errors import RunError
from cxr.experiment import Experiment, code_provenance
from cxr.inference import predict_fold, to_grey
from cxr.model import Classifier, load_pretrained
from cxr.store import FoldFolder

log = logging.getLogger(__name__)

PRETRAINED_SHARE = 0.1
"""Learning rate of pretrained layers as a share of the head's: they are refined, not relearnt."""
WEIGHT_DECAY = 0.01


def train_fold(run: Experiment, fold: int, device: str) -> None:
    """Train a fold to its end and write its predictions, unless it is complete; resume what was begun.

    Args:
        device: cpu, or cuda:<index>.

    Raises:
        RunError: another process trains this fold, or its checkpoint is damaged.
    """
    if not 0 <= fold < run.config.folds:
        raise RunError(f"run {run.folder.run_id} has folds 0 to {run.config.folds - 1}, got {fold}.")
    torch.set_num_threads(run.n_threads[fold])
    folder = run.folder.fold(fold)
    with store.locked(folder.lock, f"fold {fold} of run {run.folder.run_id}", patience_s=30):
        if folder.is_complete(run.config_hash):
            log.info("fold %d: complete already", fold)
            return
        store.sweep(folder.path)
        start = time.monotonic()
        trainer = FoldTrainer(run, fold, device)
        trainer.resume(folder)
        while trainer.epoch < run.config.epochs:
            trainer.train_epoch()
            trainer.save(folder)
        trainer.finish(folder)
        predict_fold(run, fold, device)
        store.write_json(
            folder.complete,
            {
                "fold": fold,
                "config_hash": run.config_hash,
                "device": device,
                "n_threads": torch.get_num_threads(),
                "n_training_films": trainer.n_films,
                "seconds": round(time.monotonic() - start, 1),
                "finished_at": store.now(),
                "code": code_provenance(),
            },
        )
        folder.checkpoint.unlink(missing_ok=True)


class FoldTrainer:
    """The state of a fold in training: everything that a checkpoint holds."""

    def __init__(self, run: Experiment, fold: int, device: str) -> None:
        config = run.config
        films = run.films().query("fold != @fold")
        targets = [run.classes.index(label) for label in films["label"]]
        self.run, self.fold, self.device = run, fold, device
        self.n_films, self.epoch, self.history = len(films), 0, list[dict[str, Any]]()
        self.squares = torch.from_numpy(run.squares(films)).to(device)
        self.targets = torch.tensor(targets, device=device)
        self.class_weight = torch.tensor(class_weights(targets, len(run.classes)), dtype=torch.float32, device=device)
        self.amp = torch.autocast(
            torch.device(device).type, torch.bfloat16, enabled=uses_bf16(config.precision, device)
        )
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first call
            torch.use_deterministic_algorithms(True)
        if config.precision == "fp32":
            torch.backends.cudnn.conv.fp32_precision = "ieee"  # pyright: ignore[reportAttributeAccessIssue]
        torch.manual_seed(config.seed * 1000 + fold)
        self.generator = torch.Generator().manual_seed(config.seed * 1000 + fold)
        model = Classifier(len(run.classes), load_pretrained(config.weights))
        self.model = model.to(device).to(memory_format=torch.channels_last)
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

    def train_epoch(self) -> None:
        """Make one pass over the training films."""
        start = time.monotonic()
        self.model.eval()  # what is frozen keeps its batch statistics
        for module in self.trained:
            module.train()
        order = torch.randperm(self.n_films, generator=self.generator)
        batches = order.split(self.run.config.batch_size)[: self.steps_per_epoch]
        losses = torch.stack([self._step(batch.to(self.device)) for batch in batches])
        seconds = time.monotonic() - start
        self.epoch += 1
        row = {
            "epoch": self.epoch,
            "training_loss": losses.mean().item(),
            "learning_rate": self.schedule.get_last_lr()[0],
            "seconds": seconds,
            "films_per_s": sum(map(len, batches)) / seconds,
        }
        self.history.append(row)
        log.info(
            "fold %d: epoch %d of %d, loss %.4f, %.0f films/s",
            self.fold, self.epoch, self.run.config.epochs, row["training_loss"], row["films_per_s"],
            extra={"bar": f"fold {self.fold}", "done": self.epoch, "of": self.run.config.epochs},
        )  # fmt: skip

    def _step(self, batch: Tensor) -> Tensor:
        config = self.run.config
        grey_B1HW = to_grey(self.squares[batch])
        if config.augment:
            grey_B1HW = augment(grey_B1HW, self.generator, flip=config.flip)
        with self.amp:
            logits_BK = self.model(grey_B1HW)
        loss = F.cross_entropy(logits_BK.float(), self.targets[batch], weight=self.class_weight)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        return loss.detach()

    def save(self, folder: FoldFolder) -> None:
        """Write the checkpoint in one step."""
        state = {
            "config_hash": self.run.config_hash,
            "epoch": self.epoch,
            "history": self.history,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
        }
        with store.replacing(folder.checkpoint) as temporary:
            torch.save(state, temporary)

    def resume(self, folder: FoldFolder) -> None:
        """Take up the checkpoint if there is one of this config."""
        if not folder.checkpoint.exists():
            return
        try:
            state = torch.load(folder.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError, … on damaged files
            raise RunError(
                f"the checkpoint of fold {self.fold} is damaged ({type(error).__name__}): give --redo-fold {self.fold}."
            ) from error
        if state["config_hash"] != self.run.config_hash:
            return
        self.epoch, self.history = state["epoch"], state["history"]
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        log.info("fold %d: taken up again after epoch %d", self.fold, self.epoch)

    def finish(self, folder: FoldFolder) -> None:
        """Write the weights and the training curve."""
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        with store.replacing(folder.weights) as temporary:
            save_file(weights, temporary)
        store.write_table(folder.epochs, pd.DataFrame(self.history).assign(fold=self.fold))


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


def uses_bf16(precision: Precision, device: str) -> bool:
    """Tell whether training runs in bfloat16 mixed precision: where asked, or where the device has it."""
    if precision != "auto":
        return precision == "bf16"
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
