"""The training loop of one fold, and its state, which a checkpoint holds.

The number of epochs is fixed and the last weights are kept: nothing is chosen on the held-out fold. Class weights come
from the training folds alone. After every epoch, and within one when a stop is requested, model, optimiser, schedule
and random state are written in one step, while the next epoch is trained: a kill costs two epochs at most. A fold that
is started again goes on from there and, on a CPU with as many threads, ends with the same weights bit for bit.
"""

import io
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils import serialization

from cxr.network.devices import uses_bf16
from cxr.network.matrix_convolution import use_matrices
from cxr.network.resnet import Classifier, load_pretrained
from cxr.storage import verified
from cxr.storage.run_folder import FoldFolder
from cxr.training.fold.average import MovingAverage
from cxr.training.fold.batches import open_batches
from cxr.training.fold.loss import blend, weighted_loss
from cxr.training.fold.memory import is_out_of_memory
from cxr.training.fold.objective import Objective
from cxr.training.fold.optimiser import make_optimiser, make_schedule
from cxr.training.run import Run
from cxr.training.supervision import StopRequest

log = logging.getLogger(__name__)

P = ParamSpec("P")
Result = TypeVar("Result")
LEAST_WEIGHT = 1e-6
"""What the loss of a batch is divided by at least; reached only where no finding of the batch is known."""


def _set_up_torch(run: Run, seed: int) -> None:
    """Set torch's switches and seed, which hold for the whole process."""
    if run.config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first call
        torch.use_deterministic_algorithms(True)
    if run.config.precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(seed)


class FoldTrainer:
    """The state of a fold in training: everything that a checkpoint holds."""

    def __init__(self, run: Run, fold: int, device: str, stop: StopRequest | None = None) -> None:
        self.run = run
        self.fold = fold
        self.device = device
        self.stop = stop or StopRequest()
        seed = run.config.seed * 1000 + fold
        _set_up_torch(run, seed)  # before the head draws its first weights
        self.generator = torch.Generator().manual_seed(seed)
        images = run.training_images(fold)
        self.n_images = len(images)
        self._start_from_nothing()
        self._set_labels(images)
        self._make_network()
        self.inputs, self.views = open_batches(run, images, self.model.preprocessing, device)

    def _start_from_nothing(self) -> None:
        """Set the counters to those of a fold that has not begun."""
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        """A row of the training curve for each epoch."""
        self.order: Tensor | None = None
        """Order of the images in the epoch under way; None between epochs."""
        self.losses: list[Tensor] = []
        """Loss of each batch of the epoch under way."""
        self.n_seen = 0
        """Images that this process has trained on, once for each epoch."""
        self.micro_batch = self.run.config.batch_size
        """Images that go through the network together; halved where memory is too small."""

    def _set_labels(self, images: pd.DataFrame) -> None:
        """Set the labels of the training images as the loss takes them, and the weight of each of its terms."""
        config = self.run.config
        objective = Objective(self.run.outputs)
        targets = objective.targets(images)
        labels_NC = objective.soft_labels(targets, config.label_smoothing)
        weights = self.run.image_weights(images)
        if weights is not None:  # the loss is linear in the labels
            labels_NC = labels_NC * torch.tensor(weights, dtype=torch.float32).unsqueeze(1)
        self.labels = labels_NC.to(self.device)
        """Soft labels, each image's times its weight, shape (n, n_terms)."""
        class_weights = objective.weights(targets, balanced=config.class_weights)
        self.class_weight = torch.tensor(class_weights, dtype=torch.float32, device=self.device)

    def _make_network(self) -> None:
        """Make the network, its optimiser and the schedule of its learning rate."""
        config = self.run.config
        bf16 = uses_bf16(config.precision, self.device) and config.trainable != "head"  # one small layer gains nothing
        self.amp = torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=bf16)
        pretrained = load_pretrained(config.weights)
        model = Classifier(
            len(self.run.outputs),
            pretrained,
            config.standardise,
            config.test_views,
            zero_init_residual=config.zero_init_residual,
        )
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        if self.device == "cpu":
            use_matrices(self.model)
        self.layers = self.model if config.trainable == "all" else self.model.stages(config.trainable)[1]
        self.optimiser, self.trained = make_optimiser(self.model, config)
        self.schedule = make_schedule(self.optimiser, config, config.epochs * self.steps_per_epoch)
        self.average = MovingAverage(self.layers, config.average)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch; the images left over, fewer than `batch_size`, differ from epoch to epoch."""
        return max(1, self.n_images // self.run.config.batch_size)

    @property
    def progress(self) -> str:
        """How far training is, in words."""
        begun = f" and {len(self.losses)} of {self.steps_per_epoch} batches" if self.losses else ""
        return f"epoch {self.epoch}{begun}"

    def train(self, folder: FoldFolder) -> None:
        """Train the epochs that are left, with a checkpoint after each; exit if a stop is requested.

        A checkpoint is written while the next epoch is trained: on a GPU, writing takes nearly as long as an epoch.
        """
        with self.stop.deferred(), ThreadPoolExecutor(1) as writer:
            writing: list[Future[None]] = []
            while self.epoch < self.run.config.epochs and not self.stop.is_requested:
                self.train_epoch()
                _wait_for(writing)
                writing = [writer.submit(_write_checkpoint, folder, self._state())]
            _wait_for(writing)
        if self.stop.is_requested:
            log.warning("fold %d: stopped after %s, which is kept", self.fold, self.progress)
        self.stop.exit_if_requested()

    def train_epoch(self) -> None:
        """Train one epoch, or the rest of one that was resumed; return within it if a stop is requested."""
        start = time.monotonic()
        self.model.eval()  # frozen layers keep their batch statistics
        for module in self.trained:
            module.train()
        if self.order is None:
            self.order = torch.randperm(self.n_images, generator=self.generator)
        order = self.order.to(self.device)
        batches = order.split(self.run.config.batch_size)[len(self.losses) : self.steps_per_epoch]
        for batch in batches:
            self.losses.append(self._step(batch))
            self.n_seen += len(batch)
            if self.stop.is_requested:
                break
        if len(self.losses) == self.steps_per_epoch:
            self._close_epoch(sum(map(len, batches)), time.monotonic() - start)

    def _close_epoch(self, n_images: int, seconds: float) -> None:
        """Add the epoch to the training curve; its rate is that of the stretch since it was last resumed."""
        row = {
            "epoch": self.epoch + 1,
            "training_loss": torch.stack(self.losses).mean().item(),
            "learning_rate": self.schedule.get_last_lr()[0],
            "seconds": seconds,
            "images_per_s": n_images / seconds,
        }
        self.history.append(row)
        self.epoch += 1
        self.order = None
        self.losses = []
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
        config = self.run.config
        x_B = self.inputs.take(batch, self.generator, self.epoch)
        labels_BC = self.labels[batch]
        if config.mixup:
            x_B, labels_BC = blend(x_B, labels_BC, config.mixup, self.generator)
        loss = self._accumulate(x_B, labels_BC)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        self.average.update()
        return loss

    def call(self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Return what `work` returns; run it in a new thread once memory has run out.

        A thread in which oneDNN was refused memory asks for the same amount again, whatever it does next.
        """
        if self.micro_batch == self.run.config.batch_size:
            return work(*args, **kwargs)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(work, *args, **kwargs).result()

    def _accumulate(self, x_B: Tensor, labels_BC: Tensor) -> Tensor:
        """Compute the batch's gradients, in ever smaller parts if memory is too small; return its loss."""
        while True:
            try:
                return self.call(self._backward, x_B, labels_BC)
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

    def _backward(self, x_B: Tensor, labels_BC: Tensor) -> Tensor:
        """Compute the batch's gradients; return its mean loss, weighted by class.

        The gradients do not depend on the size of the parts, but for batch norm, where it is trained: it takes its
        statistics from each part.
        """
        loss = torch.zeros((), device=self.device)
        total = (self.class_weight * labels_BC).sum().clamp_min(LEAST_WEIGHT)
        link = self.run.outputs.link
        for x, labels in zip(x_B.split(self.micro_batch), labels_BC.split(self.micro_batch), strict=True):
            with self.amp:
                logits = self.layers(x)
            part = weighted_loss(logits.float(), labels, self.class_weight, self.run.config.loss, link) / total
            part.backward()
            loss += part.detach()
        return loss

    def save(self, folder: FoldFolder) -> None:
        """Write the checkpoint in one step."""
        _write_checkpoint(folder, self._state())

    def _state(self) -> memoryview:
        """Return everything that a checkpoint holds, as bytes that further training does not change."""
        state = {
            "config_hash": self.run.config_hash,
            "epoch": self.epoch,
            "history": self.history,
            "layers": self.layers.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict(),
            "generator": self.generator.get_state(),
            "order": self.order,
            "losses": [loss.cpu() for loss in self.losses],
        }
        buffer = io.BytesIO()
        saving: Any = serialization.config  # torch gives this module its methods when it is imported
        with saving.patch("save.compute_crc32", False):  # half of the time; the file is held against its SHA-256
            torch.save(state, buffer)  # writing to a file, torch would not report a full disk
        return buffer.getbuffer()

    def resume(self, folder: FoldFolder) -> None:
        """Load the checkpoint, if there is one of this config.

        Raises:
            DamagedError: it is missing, or was changed.
        """
        if not verified.exists(folder.checkpoint):
            return
        buffer = io.BytesIO(verified.read_bytes(folder.checkpoint))
        state = torch.load(buffer, map_location="cpu", weights_only=True)
        if state["config_hash"] != self.run.config_hash:
            return
        self.epoch = state["epoch"]
        self.history = state["history"]
        self.layers.load_state_dict(state["layers"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.average.load_state_dict(state["average"])
        self.generator.set_state(state["generator"])
        self.order = state["order"]
        self.losses = [loss.to(self.device) for loss in state["losses"]]
        log.info("fold %d: resumed after %s", self.fold, self.progress)

    def finish(self, folder: FoldFolder) -> None:
        """Write the weights, averaged if the recipe says so, and the training curve."""
        self.average.apply()
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        with verified.replacing(folder.weights) as temporary:
            temporary.write_bytes(save(weights))
        verified.write_table(folder.epochs, pd.DataFrame(self.history).assign(fold=self.fold))


def _write_checkpoint(folder: FoldFolder, state: memoryview) -> None:
    with verified.replacing(folder.checkpoint) as temporary:
        temporary.write_bytes(state)


def _wait_for(writing: Sequence[Future[None]]) -> None:
    """Wait until the checkpoint is written; raise what writing it raised."""
    for future in writing:
        future.result()
