"""The trunk of a network pretrained on images alone: two views of an image agree, and no two outputs say the same.

Barlow Twins: each image is augmented twice, and over a batch the correlations of the outputs for one view with those
for the other are pulled to the identity. It needs no queue, no second network and no large batch. The method is a loss
of ten lines, so no library is worth its dependencies. Images, their preparation and their augmentation are a run's.

Source: Zbontar et al., Barlow Twins: Self-supervised learning via redundancy reduction, ICML 2021.
"""

import time
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from cxr.network.devices import uses_bf16
from cxr.network.matrix_convolution import use_matrices
from cxr.network.resnet import Classifier
from cxr.training.fold.batches import SquareBatches
from cxr.training.run import Run

N_OUTPUTS = 512
"""Of the projector, which has three layers of this width. Chance alone lets outputs correlate over a batch of 64; with
more outputs, that noise would be a larger part of the loss than in the paper, whose batches have 2,048 images."""
OFF_DIAGONAL = 0.005
"""Weight of the correlations between different outputs, as in the paper."""
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""
WEIGHT_DECAY = 0.01
SMALLEST_VARIANCE = 1e-5
MEASURES = ("loss", "agreement", "spread")
"""Of a batch; agreement is the mean correlation of an output for one view with the same output for the other."""


class BarlowTwins:
    """A trunk in pretraining.

    Args:
        run: whose preparation and augmentation of images is used.
        fold: its number and the run's seed are the seed of the first weights, the order of images and the augmentation.
        images: those that are seen; their labels are not read.
        device: cpu, or cuda:<index>.
        epochs: passes over the images, in each of which an image is seen in two views.
    """

    def __init__(self, run: Run, fold: int, images: pd.DataFrame, device: str, epochs: int) -> None:
        self.fold = fold
        self.device = device
        self.epochs = epochs
        self.n_images = len(images)
        self.history: list[dict[str, Any]] = []
        """A row for each epoch: its number, and the mean of MEASURES over its batches."""
        self.generator = torch.Generator().manual_seed(fold_seed(run, fold))
        self.model = with_projector(new_network(run, fold)).to(device).to(memory_format=torch.channels_last)
        if device == "cpu":
            use_matrices(self.model)
        bf16 = uses_bf16(run.config.precision, device)
        self.amp = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16)
        self.batches = SquareBatches(run, images, self.model.preprocessing, device)
        self.optimiser = AdamW(self.model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        n_steps = epochs * self.steps_per_epoch
        self.schedule = OneCycleLR(self.optimiser, LEARNING_RATE, n_steps, pct_start=WARM_UP)

    @property
    def batch_size(self) -> int:
        """Images in a batch; all of them where there are fewer than BATCH_SIZE."""
        return min(BATCH_SIZE, self.n_images)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch."""
        return self.n_images // self.batch_size

    def train(self) -> float:
        """Train all epochs; return the seconds that they took."""
        start = time.perf_counter()
        self.model.train()
        for epoch in range(self.epochs):
            order = torch.randperm(self.n_images, generator=self.generator).to(self.device)
            steps = [self._step(rows, epoch) for rows in order.split(self.batch_size)[: self.steps_per_epoch]]
            means = (round(mean, 4) for mean in torch.stack(steps).mean(dim=0).tolist())
            self.history.append({"epoch": epoch + 1} | dict(zip(MEASURES, means, strict=True)))
            print(f"fold {self.fold}: {self.history[-1]}, {self.epochs} epochs in all", flush=True)
        return time.perf_counter() - start

    def _step(self, rows: Tensor, epoch: int) -> Tensor:
        """Take a step; return the batch's MEASURES, shape (3,)."""
        views = [self.batches.take(rows, self.generator, epoch) for _ in range(2)]
        with self.amp:  # each view by itself, with batch statistics of its own
            outputs = [self.model(view).float() for view in views]
        correlations_DD = correlations(*outputs)
        loss = redundancy(correlations_DD)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        return torch.stack([loss, correlations_DD.diagonal().mean(), spread(outputs[0])]).detach()

    def trunk(self) -> dict[str, Tensor]:
        """Return the trunk's tensors under torchvision's names, on the CPU."""
        state = self.model.network.state_dict()
        return {name: tensor.cpu().contiguous() for name, tensor in state.items() if not name.startswith("fc.")}


def fold_seed(run: Run, fold: int) -> int:
    """Return the seed that a fold of a run is trained with."""
    return run.config.seed * 1000 + fold


def new_network(run: Run, fold: int) -> Classifier:
    """Return a network with random weights."""
    torch.manual_seed(fold_seed(run, fold))
    return Classifier(len(run.outputs), standardise=run.config.standardise)


def with_projector(model: Classifier) -> Classifier:
    """Put the projector in the place of a network's head."""
    n_features = model.network.fc.in_features
    hidden = [
        layer
        for n_inputs in (n_features, N_OUTPUTS)
        for layer in (nn.Linear(n_inputs, N_OUTPUTS, bias=False), nn.BatchNorm1d(N_OUTPUTS), nn.ReLU())
    ]
    model.network.add_module("fc", nn.Sequential(*hidden, nn.Linear(N_OUTPUTS, N_OUTPUTS, bias=False)))
    return model


def correlations(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """Return the correlation over a batch of each output for one view with each output for the other, shape (D, D)."""
    return standardised(first_BD).T @ standardised(second_BD) / len(first_BD)


def redundancy(correlations_DD: Tensor) -> Tensor:
    """Return how far the correlations are from the identity: the loss of Barlow Twins."""
    same_D = correlations_DD.diagonal()
    others = correlations_DD.square().sum() - same_D.square().sum()
    return (same_D - 1).square().sum() + OFF_DIAGONAL * others


def standardised(outputs_BD: Tensor) -> Tensor:
    """Return the outputs with mean 0 and variance 1 over the batch; what does not vary becomes 0."""
    centred_BD = outputs_BD - outputs_BD.mean(dim=0)
    return centred_BD / (centred_BD.square().mean(dim=0) + SMALLEST_VARIANCE).sqrt()


def spread(outputs_BD: Tensor) -> Tensor:
    """Return how far outputs of unit length vary: 1 if they fill the sphere evenly, 0 if they have collapsed.

    Source: Chen & He, Exploring simple Siamese representation learning, CVPR 2021, section 4.1.
    """
    return F.normalize(outputs_BD, dim=1).std(dim=0).mean() * outputs_BD.shape[1] ** 0.5
