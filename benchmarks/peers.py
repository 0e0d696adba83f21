"""Common ways to score a folder of images, from disk to a table in one process.

    python -m benchmarks.peers plain|tuned|lightning FOLDER OUT.csv

`plain` is torchvision's ImageFolder, DataLoader and ResNet-50 in float32, as in tutorials; `tuned` is the
same with bfloat16 autocast and channels-last; `lightning` is Trainer.predict around it. Random weights.
"""

import argparse
import contextlib
import sys

import pandas as pd
import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

BATCH_SIZE = 32
RESIZE = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)


def main() -> None:
    """Score the folder as the peer does; write paths and probabilities."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["plain", "tuned", "lightning"])
    parser.add_argument("folder")
    parser.add_argument("out")
    arguments = parser.parse_args()
    images = ImageFolder(arguments.folder, RESIZE)
    loader = DataLoader(images, batch_size=BATCH_SIZE, num_workers=2)
    torch.manual_seed(0)
    model = torchvision.models.resnet50(num_classes=2).eval()
    predict = _with_lightning if arguments.peer == "lightning" else _with_a_loop
    probability = predict(model, loader, tuned=arguments.peer == "tuned")
    pd.DataFrame({"path": [path for path, _ in images.imgs], "probability": probability}).to_csv(arguments.out)


def _with_a_loop(model: torch.nn.Module, loader: DataLoader, *, tuned: bool) -> list[float]:
    if tuned:
        model = model.to(memory_format=torch.channels_last)
    autocast = torch.autocast("cpu", torch.bfloat16) if tuned else contextlib.nullcontext()
    probability: list[float] = []
    with torch.inference_mode(), autocast:
        for batch, _ in loader:
            images = batch.to(memory_format=torch.channels_last) if tuned else batch
            probability += model(images).float().softmax(dim=1)[:, 1].tolist()
    return probability


def _with_lightning(model: torch.nn.Module, loader: DataLoader, *, tuned: bool) -> list[float]:
    try:
        import lightning  # noqa: PLC0415 the one peer that needs it  # pyright: ignore[reportMissingImports]
    except ImportError:
        sys.exit("lightning is missing: make bench installs it")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def predict_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return self.model(batch[0]).softmax(dim=1)[:, 1]

    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, precision="bf16-mixed")
    predicted = trainer.predict(Module(), loader)
    return torch.cat(predicted).float().tolist()  # pyright: ignore[reportArgumentType, reportCallIssue]


if __name__ == "__main__":
    main()
