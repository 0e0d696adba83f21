"""The label of each image, and the classes that follow: from folders and file names, before any image is read."""

import re
from collections.abc import Sequence

import pandas as pd

from cxr.classes import spell_apart, spelt_alike
from cxr.config import DataConfig
from cxr.dataset.layout import Listing, SourceImage
from cxr.errors import ConfigError, DataError

SUBTYPE = re.compile(r"_(bacteria|virus)(?=[_.])", re.IGNORECASE)
DEFAULT_POSITIVE = "PNEUMONIA"


def subtype_of(image: SourceImage) -> str | None:
    """Return `bacteria` or `virus`, where the file name says so."""
    match = SUBTYPE.search(image.path.rpartition("/")[2])
    return match.group(1).lower() if match else None


def label_of(image: SourceImage, config: DataConfig) -> str:
    """Return the class of an image: its folder, or the subtype in its name if the config asks for it."""
    return (config.label_from == "subtype" and subtype_of(image)) or image.class_folder


def require_labels(listing: Listing, config: DataConfig) -> None:
    """Check what folders and file names say about the classes.

    Raises:
        DataError: two names of classes differ only in letter case, spaces or Unicode form.
        ConfigError: `positive` does not fit the classes.
    """
    place = {label_of(image, config): image.path.rpartition("/")[0] for image in listing.images}
    labels = sorted(place)
    if config.label_from == "folder":
        place = {folder.rpartition("/")[2]: folder for folder in listing.empty_folders} | place
    if alike := spelt_alike(place):
        folders = spell_apart(place[name] for name in alike)
        raise DataError(
            f"the classes {' and '.join(spell_apart(alike))} differ only in letter case, spaces or Unicode form: "
            f"spell the class alike everywhere; they are in the folders {' and '.join(folders)}."
        )
    if len(labels) > 1:
        order_classes(labels, config)


def class_names(manifest: pd.DataFrame, config: DataConfig) -> list[str]:
    """Return the names of the classes that have a usable image, in output order.

    Raises:
        DataError: fewer than two classes have a usable image.
        ConfigError: as for `order_classes`; or subtypes are asked for and no image has one.
    """
    used = manifest[manifest["status"] == "used"]
    names = sorted(used["label"].unique())
    if len(names) < 2:
        raise DataError(f"two classes or more are needed, but usable images were found only in {names or 'none'}.")
    if config.label_from == "subtype" and used["subtype"].isna().all():
        raise ConfigError("--label-from subtype needs names like person1_bacteria_2.jpeg, but no image has a subtype.")
    return order_classes(names, config)


def order_classes(names: Sequence[str], config: DataConfig) -> list[str]:
    """Return class names in output order: sorted; for two classes the positive class is last.

    Raises:
        ConfigError: `positive` is not one of two classes, or is given for more than two.
    """
    if len(names) > 2:
        if config.positive is not None:
            raise ConfigError(f"--positive is for two classes; {len(names)} were found: {', '.join(names)}.")
        return sorted(names)
    positive = config.positive or DEFAULT_POSITIVE
    if positive not in names:
        *quoted, given = spell_apart([*sorted(names), positive])
        reason = f"got {given}" if config.positive else f"as neither is {given}, the default"
        raise ConfigError(f"--positive must name one of the classes {' and '.join(quoted)}, {reason}.")
    return sorted(names, key=lambda name: (name == positive, name))
