"""How a network is trained: the part of a run's config that is chosen by experiment, and presets of it.

Each field's sentence under `Attributes` is the one that `--help` and the form in the Prefect UI show. Which values the
presets have, and what each of them is worth, stands in docs/decisions/.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cxr.augmentation import Augmentation, as_policy, bounded, require_bounds
from cxr.errors import ConfigError

Trainable = Literal["head", "layer4", "all"]
Precision = Literal["auto", "fp32", "bf16"]
Standardise = Literal["none", "percentile"]
TestViews = Literal["none", "zoom", "zoom-and-flip"]
Schedule = Literal["one-cycle", "cosine", "constant"]
Loss = Literal["cross-entropy", "focal"]
Preset = Literal["quick", "standard", "best"]

SMALLEST_SIDE = 32
"""Of the squares that a network is trained on, in pixels.

At 16 pixels the last stage's maps are single pixels, and there oneDNN returns memory that it never wrote for some of
the gradient in bfloat16; see docs/decisions/recipes.md.
"""
BY_PRESET: Any = None
"""Default of an option whose value is the preset's."""


def require_choices(record: Any) -> None:
    """Raise ConfigError if a field that has one of a few values has another; None is left to the preset."""
    for name, kind in get_type_hints(type(record)).items():
        value = getattr(record, name)
        choices = next((get_args(part) for part in (kind, *get_args(kind)) if get_origin(part) is Literal), None)
        if choices and value is not BY_PRESET and value not in choices:
            raise ConfigError(f"--{name.replace('_', '-')} must be one of {', '.join(choices)}, got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the network is trained; what is not given has the value that the preset has for it.

    Attributes:
        preset: Values of the options that are not given: quick, standard or best; `cxr presets` shows them.
        weights: Where the ResNet-50 starts: imagenet-v1, imagenet-v2, none, or a .pth or .safetensors file.
        zero_init_residual: With --weights none, start each residual block as the identity: a network that is trained
            for a few hundred steps learns sooner.
        trainable: What is trained: head (frozen feature extractor), layer4 (and head), or all.
        size: Side of the square that each image is scaled to, in pixels, 32 to 1024.
        standardise: Stretch each image's grey levels from its 2nd to its 98th percentile (percentile), or leave them
            (none); a packaged model does the same.
        test_views: Where the network predicts, average its logits over the image and its four corners at 90% of the
            side (zoom), also over their mirror images (zoom-and-flip), or take the image alone (none).
        epochs: Passes over the training images, 1 to 1000; fixed: nothing is selected on the held-out fold.
        progressive: Share of the epochs, the first ones, in which images have half the side, 0 to 0.9.
        batch_size: Images per training step, 1 to 4096.
        augment: How far each image is changed at random: none, mild, strong, or a TOML file of limits.
        views: Versions of each image that frozen layers see, 1 to 64: the image itself, the others augmented.
        flip: Also mirror half of the training images left to right.
        mixup: Blend pairs of images and their labels, with shares from Beta(mixup, mixup); 0 blends none, at most 2.
        learning_rate: Peak of the schedule for the head; pretrained layers get a tenth.
        schedule: How the learning rate falls after its peak: one-cycle, cosine, or not at all (constant).
        warm_up: Share of the training steps in which the learning rate rises to its peak, 0 to 0.9.
        weight_decay: Decay of the weights at a learning rate of 1, 0 to 1.
        average: Decay of the moving average of the weights over the steps, which is kept in their place; 0 for none,
            at most 0.9999.
        loss: cross-entropy, or focal, which weighs images the less the surer their prediction is (exponent 2).
        class_weights: Weigh each class by the inverse of its share of the training images.
        label_smoothing: Share of each label that is spread over all classes, 0 to 0.5.
        precision: Arithmetic of training: bf16 where the device has it (auto), fp32, or bf16.
        deterministic: Use deterministic GPU kernels, which are slower; training on a CPU is always deterministic.
    """

    preset: Preset = field(default="standard", compare=False)
    weights: str = "imagenet-v1"
    zero_init_residual: bool = field(default=BY_PRESET)
    trainable: Trainable = field(default=BY_PRESET)
    size: int = bounded(BY_PRESET, SMALLEST_SIDE, 1024)
    standardise: Standardise = field(default=BY_PRESET)
    test_views: TestViews = field(default=BY_PRESET)
    epochs: int = bounded(BY_PRESET, 1, 1000)
    progressive: float = bounded(BY_PRESET, 0, 0.9)
    batch_size: int = bounded(BY_PRESET, 1, 4096)
    augment: str = field(default=BY_PRESET)
    views: int = bounded(BY_PRESET, 1, 64)
    flip: bool = field(default=BY_PRESET)
    mixup: float = bounded(BY_PRESET, 0, 2)
    learning_rate: float = bounded(BY_PRESET, 1e-8, 1)
    schedule: Schedule = field(default=BY_PRESET)
    warm_up: float = bounded(BY_PRESET, 0, 0.9)
    weight_decay: float = bounded(BY_PRESET, 0, 1)
    average: float = bounded(BY_PRESET, 0, 0.9999)
    loss: Loss = field(default=BY_PRESET)
    class_weights: bool = field(default=BY_PRESET)
    label_smoothing: float = bounded(BY_PRESET, 0, 0.5)
    precision: Precision = field(default=BY_PRESET)
    deterministic: bool = field(default=BY_PRESET)

    def __post_init__(self) -> None:
        require_choices(self)
        for name, value in PRESETS[self.preset](self.weights).items():
            if getattr(self, name) is BY_PRESET:
                object.__setattr__(self, name, value)
        require_choices(self)
        require_bounds(self)
        object.__setattr__(self, "augment", as_policy(self.augment))
        self._require_sense()

    def _require_sense(self) -> None:
        """Raise ConfigError if one option makes no sense beside another."""
        if self.weights == "none" and self.trainable != "all":
            raise ConfigError(
                f"with --weights none no layer is worth freezing, but --trainable is {self.trainable!r}: "
                "give pretrained weights, or --trainable all."
            )
        if self.zero_init_residual and self.weights != "none":
            raise ConfigError(
                f"--zero-init-residual is for random weights, and --weights is {self.weights!r}: leave it out, or give "
                "--weights none."
            )
        if self.views > 1 and self.trainable == "all":
            raise ConfigError(
                "--views is for frozen layers, which see each image once; --trainable all augments each batch instead: "
                f"leave out --views {self.views}, or give --trainable head."
            )
        if self.views > 1 and self.policy is None:
            raise ConfigError(f"--views {self.views} needs augmented images: give --augment mild or strong.")
        if self.test_views == "zoom-and-flip" and not self.flip:
            raise ConfigError(
                "--test-views zoom-and-flip shows the network mirrored images, which it does not see in training: "
                "give --flip, or --test-views zoom."
            )
        if self.progressive:
            self._require_halves()

    def _require_halves(self) -> None:
        """Raise ConfigError if images cannot have half the side in the first epochs."""
        option = f"--progressive {self.progressive:g}"
        if self.trainable != "all":
            raise ConfigError(
                f"{option} needs --trainable all, got {self.trainable!r}: frozen layers see each image once, at one "
                "size."
            )
        if self.size < 2 * SMALLEST_SIDE:
            raise ConfigError(
                f"{option} begins at half the side, which must be {SMALLEST_SIDE} pixels or more: give --size "
                f"{2 * SMALLEST_SIDE} or more, got {self.size}."
            )
        if not self.half_size_epochs:
            raise ConfigError(
                f"{option} of {self.epochs} epochs is no whole epoch before the last one, which has the whole side: "
                "give more of either."
            )

    @property
    def half_size_epochs(self) -> int:
        """How many epochs, the first ones, are trained on images of half the side; the last one never is."""
        return min(round(self.progressive * self.epochs), self.epochs - 1)

    @property
    def policy(self) -> Augmentation | None:
        """How far images are changed at random."""
        return Augmentation.named(self.augment)


Recipe.__annotations__.update(
    {name: kind | None for name, kind in get_type_hints(Recipe).items() if getattr(Recipe, name) is BY_PRESET}
)
# Command line and form take None for "the preset's"; type checkers see what a recipe holds once it is made.

PLAIN: dict[str, Any] = {
    "zero_init_residual": False,
    "trainable": "all",
    "size": 224,
    "standardise": "none",
    "test_views": "none",
    "epochs": 10,
    "progressive": 0.0,
    "batch_size": 64,
    "augment": "mild",
    "views": 1,
    "flip": False,
    "mixup": 0.0,
    "learning_rate": 1e-3,
    "schedule": "one-cycle",
    "warm_up": 0.3,
    "weight_decay": 0.01,
    "average": 0.0,
    "loss": "cross-entropy",
    "class_weights": True,
    "label_smoothing": 0.0,
    "precision": "auto",
    "deterministic": False,
}
"""What the presets have in common."""
TRANSPORTING = PLAIN | {"standardise": "percentile", "augment": "strong"}
"""What holds best on images of other sites."""


def quick(weights: str) -> dict[str, Any]:
    """Return the options for a first look: minutes on a CPU, and far from what the images allow."""
    if weights == "none":
        return PLAIN | {"size": 64, "epochs": 5}
    return PLAIN | {"trainable": "head", "epochs": 5}


def standard(weights: str) -> dict[str, Any]:
    """Return the options where nothing else is asked for."""
    if weights == "none":
        return TRANSPORTING | {"epochs": 36, "average": 0.998}
    return PLAIN | {"trainable": "head"}


def best(weights: str) -> dict[str, Any]:
    """Return the options for the best model, whatever time it takes."""
    if weights == "none":
        return TRANSPORTING | {"epochs": 72, "average": 0.999}
    return TRANSPORTING | {"epochs": 20, "average": 0.998}


PRESETS: dict[Preset, Callable[[str], dict[str, Any]]] = {"quick": quick, "standard": standard, "best": best}
"""What `--preset` names: each returns a value for every option, given the weights that the network starts from."""
