"""The output of the frozen layers for each image, computed once for all folds, epochs and later runs.

It is kept in `cache/features/`, keyed by the image's content, the hash of the weights, the size, the stage at which the
network is cut, the arithmetic, and the view. With `--trainable head` the stage is the pooled feature vector (2,048
values, 8 KB an image); with `layer4` it is the output of layer3 (1,024 × 14 × 14 at 224 px, half precision, 400 KB an
image). View 0 is the image itself. View k > 0 is the image augmented as `--augment` says, by draws that depend only on
its content and k, so adding an image does not change the views of the others. Test-time views, from which held-out
images are predicted, are kept beside these.

A frozen layer keeps its batch statistics, so an image's features do not depend on the batch that it is in.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cxr.config import TrainConfig
from cxr.images.decoding import DECODER
from cxr.network.acceleration import accelerate
from cxr.network.augmentation import augment
from cxr.network.devices import uses_bf16
from cxr.network.preprocessing import Preprocessing
from cxr.network.resnet import Classifier, load_pretrained
from cxr.network.views import seen_through, view_maps
from cxr.storage import events, files
from cxr.storage.cache_folder import CacheFolder
from cxr.storage.image_arrays import ImageArrays
from cxr.training.run import Run

log = logging.getLogger(__name__)

CHUNK = 256
"""Images computed between two writes: the most that a kill can cost."""


def open_features(run: Run, view: int, device: str) -> ImageArrays:
    """Return the store of one view's features, arrays of the stage's shape by image_id."""
    config = run.config
    bf16 = uses_bf16(config.precision, device)
    side = -(-config.size // 16)
    shape = {"head": (2048,), "layer4": (1024, side, side)}[config.trainable]
    dtype = np.float16 if bf16 and config.trainable == "layer4" else np.float32
    folder = CacheFolder(run.cache).features(
        decoder=DECODER,
        weights=run.weights_hash,
        size=config.size,
        stage=config.trainable,
        arithmetic="bf16" if bf16 else "fp32",
        view=_view_name(view, config),
    )
    return ImageArrays(folder, shape, dtype)


def _view_name(view: int, config: TrainConfig) -> str:
    """Return a name that changes with everything that is done to an image before the frozen layers."""
    map_23 = _test_view(view, config)
    changes: dict[str, Any] = {"augment": repr(config.policy), "flip": config.flip} if view else {}
    if map_23 is not None:
        changes = {"map": map_23.tolist()}
    if config.standardise != "none":
        changes["standardise"] = config.standardise
    digest = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:12]
    kind = str(view) if map_23 is None else "test"
    return f"{kind}-{digest}" if changes else kind


def _test_view(view: int, config: TrainConfig) -> Tensor | None:
    """Return the map of a test-time view beside the image itself; None for a view that is trained on."""
    maps = view_maps(config.test_views)
    return maps[view - config.views] if maps is not None and view >= config.views else None


def extract(run: Run, device: str) -> list[ImageArrays]:
    """Compute the features that the cache lacks; return the store of each view, or none if no layer is frozen.

    The first `config.views` are trained on, the image itself first; the others are the test-time views beside it.
    The stores remember which arrays they have found intact: pass them on rather than opening them again.
    """
    if run.config.trainable == "all":
        return []
    images = run.images()
    maps = view_maps(run.config.test_views)
    n_views = run.config.views + (0 if maps is None else len(maps))
    with files.locked(CacheFolder(run.cache).features_lock, "the features cache", patience_s=24 * 3600):
        stores = [open_features(run, view, device) for view in range(n_views)]
        missing = [images[[image_id not in kept for image_id in images["image_id"]]] for kept in stores]
        n_missing = sum(map(len, missing))
        if not n_missing:
            log.info("features: all %d images are in the cache", len(images))
            return stores
        with events.stage(run.folder.events, "features", device=device) as stage:
            stage.n_images = n_missing
            _fill(run, stores, missing, *_frozen_layers(run, device, n_missing))
    return stores


def _fill(
    run: Run,
    stores: Sequence[ImageArrays],
    missing: Sequence[pd.DataFrame],
    preprocessing: Preprocessing,
    forward: Callable[[Tensor], Tensor],
) -> None:
    """Add the missing images' features; `stores` and `missing` have an entry for each view."""
    n_missing = sum(map(len, missing))
    done = 0
    for view, (kept, lacking) in enumerate(zip(stores, missing, strict=True)):
        for start in range(0, len(lacking), CHUNK):
            chunk = lacking.iloc[start : start + CHUNK]
            grey_B1HW = _view(run, chunk, view, preprocessing)
            features = forward(preprocessing.normalise(grey_B1HW)).cpu().numpy().astype(kept.dtype)
            kept.add(dict(zip(chunk["image_id"], features, strict=True)))
            done += len(chunk)
            log.info(
                "features of %d of %d images",
                done,
                n_missing,
                extra={"bar": "features", "done": done, "of": n_missing},
            )


def _frozen_layers(run: Run, device: str, n_images: int) -> tuple[Preprocessing, Callable[[Tensor], Tensor]]:
    """Return the preprocessing, and a function from inputs (n, 3, H, W) to features (n, …), on the device."""
    config = run.config
    model = Classifier(len(run.outputs), load_pretrained(config.weights), config.standardise).eval()
    frozen, _ = model.stages(config.trainable)
    forward = accelerate(
        lambda: frozen,
        f"{run.weights_hash} {config.trainable} {config.size}",
        device,
        bf16=uses_bf16(config.precision, device),
        n_images=n_images,
        compile=run.compile,
        cache=run.cache,
    )
    return model.preprocessing, forward


def _view(run: Run, images: pd.DataFrame, view: int, preprocessing: Preprocessing) -> Tensor:
    """Return one view of each image as grey values, shape (n, 1, H, W)."""
    grey_B1HW = preprocessing.grey(torch.from_numpy(run.squares(images)))
    if view == 0:
        return grey_B1HW
    map_23 = _test_view(view, run.config)
    if map_23 is not None:
        return seen_through(grey_B1HW, map_23)
    pairs = zip(grey_B1HW, images["image_id"], strict=True)
    return torch.cat([_augmented(grey, image_id, view, run.config) for grey, image_id in pairs])


def _augmented(grey_1HW: Tensor, image_id: str, view: int, config: TrainConfig) -> Tensor:
    generator = torch.Generator().manual_seed((int(image_id[:15], 16) + view) % 2**63)
    return augment(grey_1HW.unsqueeze(0), config.policy, generator, flip=config.flip)
