"""Which heat map lies on what was drawn: Grad-CAM, HiResCAM and LayerCAM of the last three groups of layers.

    python -m benchmarks.heat_maps --run experiments/demo

Each map's heat inside the opacities of drawn images is compared with the area of these, as in `drawn_opacities`: a map
that looked anywhere has the ratio 1. What is compared is a layer's output, times its gradient; Grad-CAM averages the
gradient over positions, LayerCAM leaves out its negative values, HiResCAM takes it as it is.

Source: Selvaraju et al., Grad-CAM, ICCV 2017; Draelos & Carin, HiResCAM, 2020; Jiang et al., LayerCAM, IEEE Trans Image
Process 2021.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.drawn_opacities import N_IMAGES, SEED, shares_of
from benchmarks.results import keep
from cxr.images.decoding import decode_square
from cxr.images.synthetic import draw_with_opacities
from cxr.network.resnet import BATCH_SIZE, Classifier
from cxr.storage.run_folder import RunFolder
from cxr.training.predictions import load_network
from cxr.training.run import load_run

LAYERS = ("layer2", "layer3", "layer4")
WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "Grad-CAM": lambda gradient: gradient.mean((2, 3), keepdim=True),
    "HiResCAM": lambda gradient: gradient,
    "LayerCAM": F.relu,
}
"""What a layer's output is multiplied by, given its gradient."""


def main() -> None:
    """Draw, explain with each map, compare, and keep the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of two classes, drawn images")
    run = load_run(RunFolder(parser.parse_args().run))
    images, opacities = zip(*draw_with_opacities(N_IMAGES, SEED), strict=True)
    squares = torch.from_numpy(np.stack([decode_square(image, run.config.size) for image in images]))
    maps: dict[str, Tensor | float] = {}
    for fold in range(run.config.folds):
        for name, heat in maps_of(load_network(run, fold), squares).items():
            maps[name] = maps.get(name, 0.0) + heat
    figures: dict[str, float] = {"size": run.config.size, "images": N_IMAGES}
    for name, heat in maps.items():
        pairs = zip(np.asarray(heat), opacities, strict=True)
        shares = np.array([shares_of(*pair) for pair in pairs])
        for kind, rows in (("virus", shares[::2]), ("bacteria", shares[1::2])):
            inside, area = np.nanmean(rows, axis=0)
            figures[f"{name}, {kind}: ratio"] = round(inside / area, 2)
    keep("heat_maps", figures)


def maps_of(model: Classifier, squares: Tensor) -> dict[str, Tensor]:
    """Return one network's maps of the positive of two classes, by name, each of shape (n, size, size)."""
    outputs: dict[str, Tensor] = {}
    model.eval()
    hooks = [
        getattr(model.network, layer).register_forward_hook(
            lambda _module, _inputs, output, layer=layer: outputs.update({layer: output})
        )
        for layer in LAYERS
    ]
    parts = [_maps_of_batch(model, batch, outputs) for batch in squares.split(BATCH_SIZE)]
    for hook in hooks:
        hook.remove()
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _maps_of_batch(model: Classifier, squares: Tensor, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    logits = model(model.preprocessing.grey(squares).requires_grad_())
    log_odds = (logits[:, 1] - logits[:, 0]).sum()
    gradients = torch.autograd.grad(log_odds, [outputs[layer] for layer in LAYERS])
    maps = {}
    for layer, gradient in zip(LAYERS, gradients, strict=True):
        for name, weight in WEIGHTS.items():
            heat = F.relu((weight(gradient) * outputs[layer].detach()).sum(1, keepdim=True))
            stretched = F.interpolate(heat, size=squares.shape[1:], mode="bilinear", align_corners=False)
            maps[f"{name} of {layer}"] = stretched.squeeze(1)
    return maps


if __name__ == "__main__":
    main()
