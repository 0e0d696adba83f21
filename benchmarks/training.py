"""Training the whole network: images per second of a fold, against the same step on random tensors.

    python -m benchmarks.training --data chest_xray.zip --size 64

The limit is forward, backward and optimiser step on one batch that is on the device already; in addition a fold
shuffles, gathers and augments images. Medians of rounds taken in turn.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.results import keep
from cxr.config import Execution, TrainConfig
from cxr.dataset.examination import examine
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run
from cxr.training.fold.loop import FoldTrainer

STEPS = 12
Step = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    """Time both in turn, print the ratio, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        config = TrainConfig(data=arguments.data, preset="quick", weights="none", size=arguments.size)
        folder, cache = RunFolder(Path(scratch) / "run"), Path(scratch) / "cache"
        examine(config, folder, cache=cache, size=config.size)
        run = begin_run(config, folder, Execution(cache=cache, devices=arguments.device))
        trainer = FoldTrainer(run, 0, arguments.device)
    trainer.model.train()
    ours, limit = [], []
    for repeat in range(arguments.repeats + 1):
        rates = images_per_s(trainer, trainer._step), images_per_s(trainer, bare_step(trainer))
        if repeat:  # the first round warms up
            ours.append(rates[0])
            limit.append(rates[1])
    figures = {
        "size, px": config.size,
        "batch": config.batch_size,
        "a fold in training, images/s": round(statistics.median(ours), 1),
        "the step on a random batch (limit), images/s": round(statistics.median(limit), 1),
        "fold / limit": round(statistics.median(a / b for a, b in zip(ours, limit, strict=True)), 3),
    }
    keep("training", figures)


def images_per_s(trainer: FoldTrainer, step: Step) -> float:
    """Return the rate of STEPS training steps on images drawn at random."""
    order = torch.randperm(trainer.n_images)[: STEPS * trainer.run.config.batch_size]
    trainer.schedule.last_epoch = 0
    start = time.perf_counter()
    losses = [step(batch.to(trainer.device)) for batch in order.split(trainer.run.config.batch_size)]
    torch.stack(losses).mean().item()  # waits for a GPU to finish
    return len(order) / (time.perf_counter() - start)


def bare_step(trainer: FoldTrainer) -> Step:
    """Return forward, backward and optimiser step on one random batch that is on the device already: the limit."""
    batch_size, size = trainer.run.config.batch_size, trainer.run.config.size
    grey = torch.rand(batch_size, 1, size, size, device=trainer.device).to(memory_format=torch.channels_last)
    targets = torch.randint(2, (batch_size,), device=trainer.device)

    def step(_: torch.Tensor) -> torch.Tensor:
        with trainer.amp:
            logits = trainer.model(grey)
        loss = F.cross_entropy(logits.float(), targets)
        loss.backward()
        trainer.optimiser.step()
        trainer.optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    return step


if __name__ == "__main__":
    main()
