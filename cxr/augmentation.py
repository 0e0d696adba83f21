"""How far images may be changed at random while a network is trained: limits, and named policies of them.

`cxr.network.augmentation` draws the changes and makes them.
"""

import dataclasses
import json
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from cxr.errors import ConfigError


def bounded(default: float | None, least: float, most: float) -> Any:
    """Return a dataclass field for a number between two bounds."""
    return field(default=default, metadata={"least": least, "most": most})


def require_bounds(record: Any, prefix: str = "--") -> None:
    """Raise ConfigError if a field made by `bounded` is out of its bounds.

    Args:
        record: a dataclass.
        prefix: comes before the field's name in the message.
    """
    for each in fields(record):
        value = getattr(record, each.name)
        if each.metadata and not each.metadata["least"] <= value <= each.metadata["most"]:
            bounds = f"between {each.metadata['least']:g} and {each.metadata['most']:g}"
            raise ConfigError(f"{prefix}{each.name.replace('_', '-')} must lie {bounds}, got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far an image may be changed at random while a network is trained; zeros change nothing.

    Attributes:
        rotation: Degrees, to either side.
        zoom_in: Least share of the image's side that is shown.
        zoom_out: Largest share of the image's side that is shown; what lies outside repeats the border.
        aspect: Natural logarithm of the largest factor between width and height.
        shift: Share of the image's side, in either direction.
        gamma: Natural logarithm of the largest exponent of the grey values.
        contrast: Part by which the contrast is raised or lowered at most.
        brightness: Added or subtracted, as a share of the range of grey values.
        blur: Share of the images that are blurred over 3 × 3 pixels.
        noise: Largest standard deviation of noise, as a share of the range of grey values.
        erase: Share of the images of which a square is erased.
        erased_side: Largest side of that square as a share of the image's side; the least is a quarter of it.
    """

    rotation: float = bounded(0.0, 0, 180)
    zoom_in: float = bounded(1.0, 0.1, 1)
    zoom_out: float = bounded(1.0, 1, 2)
    aspect: float = bounded(0.0, 0, 1)
    shift: float = bounded(0.0, 0, 0.5)
    gamma: float = bounded(0.0, 0, 2)
    contrast: float = bounded(0.0, 0, 1)
    brightness: float = bounded(0.0, 0, 1)
    blur: float = bounded(0.0, 0, 1)
    noise: float = bounded(0.0, 0, 1)
    erase: float = bounded(0.0, 0, 1)
    erased_side: float = bounded(0.4, 0.01, 1)

    def __post_init__(self) -> None:
        require_bounds(self, "augmentation: ")

    @classmethod
    def named(cls, name: str) -> "Augmentation | None":
        """Return the policy that `--augment` names: a key of POLICIES, or the JSON text that a file became.

        Raises:
            ConfigError: there is no such policy.
        """
        return POLICIES[name] if name in POLICIES else cls.parsed(json.loads(name), "--augment")

    @classmethod
    def parsed(cls, values: dict[str, Any], source: str) -> Self:
        """Return the policy with these values; raise ConfigError if one of them is unknown or no number."""
        unknown = sorted(values.keys() - {each.name for each in fields(cls)})
        if unknown:
            names = ", ".join(each.name for each in fields(cls))
            raise ConfigError(f"{source} names {unknown[0]!r}, which is no limit of augmentation: they are {names}.")
        wrong = [
            name for name, value in values.items() if isinstance(value, bool) or not isinstance(value, int | float)
        ]
        if wrong:
            raise ConfigError(f"{source}: {wrong[0]} must be a number, got {values[wrong[0]]!r}.")
        return cls(**{name: float(value) for name, value in values.items()})


POLICIES: dict[str, Augmentation | None] = {
    "none": None,
    "mild": Augmentation(rotation=10, zoom_in=0.9, zoom_out=1.1, shift=0.05, contrast=0.2, brightness=0.1),
    "strong": Augmentation(
        rotation=12,
        zoom_in=0.6,
        zoom_out=1.1,
        aspect=0.2,
        shift=0.2,
        gamma=0.7,
        contrast=0.4,
        brightness=0.2,
        blur=0.3,
        noise=0.04,
        erase=0.4,
    ),
}
"""What `--augment` names."""


def as_policy(augment: str) -> str:
    """Return the value of `--augment` with a file replaced by its content, as JSON text.

    So a run knows what it was trained with, and can be resumed where the file is not.

    Raises:
        ConfigError: it is no policy, and no file of one.
    """
    if not isinstance(augment, str):  # a run's record may hold anything
        raise ConfigError(f"--augment must be one of {', '.join(POLICIES)}, or a TOML file, got {augment!r}.")
    if augment in POLICIES:
        return augment
    values = _from_json(augment) if augment.startswith("{") else _from_file(augment)
    return json.dumps(dataclasses.asdict(Augmentation.parsed(values, "--augment")), sort_keys=True)


def _from_json(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--augment {text!r} is no JSON: {error}.") from error


def _from_file(augment: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(augment).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else str(error)
    raise ConfigError(
        f"--augment must be one of {', '.join(POLICIES)}, or a TOML file that can be read, got {augment!r} ({cause})."
    )
