"""A recipe in words, for the report and the model card, and as the command that repeats a run."""

import dataclasses
import shlex
from pathlib import Path

from cxr.augmentation import POLICIES, Augmentation
from cxr.config import TrainConfig
from cxr.recipe import PRESETS
from cxr.wording import percent

CHANGES = {
    "rotation": "rotation by up to {0:g}°",
    "zoom_in": "zoom to {1} of the side",
    "zoom_out": "zoom to {1} of the side",
    "aspect": "aspect by up to e^±{0:g}",
    "shift": "shift by up to {1}",
    "gamma": "gamma by up to e^±{0:g}",
    "contrast": "contrast by a factor of up to 1 ± {0:g}",
    "brightness": "brightness by up to ±{1}",
    "blur": "blur of {1} of the images",
    "noise": "noise of up to {1}",
    "erase": "a square erased in {1} of the images",
}
"""What each limit of an augmentation means, with its value as it is and in percent."""
DECLINES = {
    "one-cycle": "a one-cycle learning rate up to {:g}",
    "cosine": "a learning rate of {:g} that falls as a cosine",
    "constant": "a constant learning rate of {:g}",
}

VIEWS = {
    "none": "",
    "zoom": "the image and its four corners at 90% of the side",
    "zoom-and-flip": "the image, its four corners at 90% of the side, and the mirror images of these five",
}
"""What a network's logits are averaged over."""


def recipe_sentences(config: TrainConfig) -> list[str]:
    """Return how a run's networks are trained, in sentences."""
    return [_preprocessing(config), _start(config), _augmentation(config), _optimisation(config), _kept(config)]


def _preprocessing(config: TrainConfig) -> str:
    levels = (
        "" if config.standardise == "none" else ", its grey levels are stretched from its 2nd to its 98th percentile"
    )
    return (
        f"Each image is stretched to a grey square of {config.size} × {config.size} pixels, borders included{levels}, "
        "and normalised as the initial weights require."
    )


def _start(config: TrainConfig) -> str:
    start = f"random, seed {config.seed}" if config.weights == "none" else Path(config.weights).name
    start += ", each residual block as the identity" if config.zero_init_residual else ""
    trained = "all layers" if config.trainable == "all" else config.trainable
    return f"Initial weights: {start}; trained: {trained}."


def _augmentation(config: TrainConfig) -> str:
    """Return how images are changed while the network is trained."""
    policy = config.policy
    name = config.augment if config.augment in POLICIES else "of the run's own"
    changes = ", ".join(_changes(policy)) if policy else ""
    if config.trainable == "all":
        text = f"Augmentation of each batch, {name}: {changes}" if policy else "No augmentation"
    elif config.views > 1:
        text = f"{config.views} versions of each image, all but one of them augmented, {name}: {changes}"
    else:
        text = "No augmentation"
    text += "; mirrored with probability 0.5" if config.flip else ""
    text += f"; pairs of images blended (mixup {config.mixup:g})" if config.mixup else ""
    return f"{text}."


def _changes(policy: Augmentation) -> list[str]:
    unchanged = Augmentation()
    return [
        text.format(getattr(policy, name), percent(getattr(policy, name)))
        for name, text in CHANGES.items()
        if getattr(policy, name) != getattr(unchanged, name)
    ]


def _optimisation(config: TrainConfig) -> str:
    loss = "cross-entropy" if config.loss == "cross-entropy" else "focal loss (exponent 2)"
    loss += " of each finding where it is known" if config.has_findings else ""
    weighted = f"class-weighted {loss} (weights from the training folds)" if config.class_weights else loss
    smoothed = f", labels smoothed by {config.label_smoothing:g}" if config.label_smoothing else ""
    rate = DECLINES[config.schedule].format(config.learning_rate)
    epochs = f"{config.epochs} epoch" + ("" if config.epochs == 1 else "s")
    small = f", the first {config.half_size_epochs} of them on half the side" if config.progressive else ""
    return (
        f"{epochs}, fixed in advance{small}; batches of {config.batch_size}, {weighted}{smoothed}, AdamW "
        f"with a weight decay of {config.weight_decay:g}, and {rate}, warmed up over {percent(config.warm_up)} of the "
        "steps."
    )


def _kept(config: TrainConfig) -> str:
    kept = "The weights of the last epoch are evaluated"
    if config.average:
        kept = f"The moving average of the weights at the last epoch (decay {config.average:g} per step) is evaluated"
    views = VIEWS[config.test_views]
    return f"{kept}; logits are averaged over {views}." if views else f"{kept}."


def command_of(config: TrainConfig, run_id: str) -> str:
    """Return the command that repeats a run.

    It names only options that differ from their defaults, and data and weights without their folders.
    """
    default = {field.name: field.default for field in dataclasses.fields(config)}
    default |= PRESETS["standard"](config.weights)
    words = ["cxr", "train", "--data", Path(config.data).name]
    for name, value in dataclasses.asdict(config).items():
        if name in ("data", "preset") or value == default[name]:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, tuple):
            words += [word for item in value for word in (f"--{flag}", item)]
        else:
            words += [f"--{flag}", Path(str(value)).name if name == "weights" else str(value)]
    return shlex.join([*words, "--run-id", run_id])
