"""The label of each image, and the classes that follow: from folders and file names, before any image is read."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from cxr.classes import spell_apart, spelt_alike
from cxr.config import DataConfig
from cxr.dataset.findings import require_source
from cxr.dataset.listing.class_folders import why_no_class
from cxr.dataset.listing.layout import Listing, SourceImage
from cxr.errors import ConfigError, DataError, FoldError

SUBTYPE = re.compile(r"_(bacteria|virus)(?=[_.])|^(bacteria|virus)(?=-\d)", re.IGNORECASE)
"""As in person1_bacteria_2.jpeg, and in BACTERIA-1008087-0001.jpeg."""
DEFAULT_POSITIVE = "PNEUMONIA"
MAX_NAMED = 5


def subtype_of(image: SourceImage) -> str | None:
    """Return `bacteria` or `virus`, where the file name says so."""
    match = SUBTYPE.search(image.path.rpartition("/")[2])
    return match[match.lastindex or 0].lower() if match else None


def label_of(image: SourceImage, config: DataConfig) -> str:
    """Return the class of an image: its folder, or the subtype in its name if the config asks for it."""
    return (config.label_from == "subtype" and subtype_of(image)) or image.class_folder


def require_trainable(listing: Listing, config: DataConfig) -> None:
    """Check what names alone say about a set that is to be trained on.

    Raises:
        ConfigError: `positive` does not fit the classes, or the holdout names no split.
        DataError: a class folder is hardly a class, two classes are spelt almost alike, or there is one class alone.
        FoldError: a class has fewer images than there are folds.
    """
    _require_class_folders(listing, config)
    require_labels(listing, config)
    require_split(config.holdout, [image.split for image in listing.images])
    if config.has_findings:  # which are counted with their patients, once the images are read
        return
    labels = {label_of(image, config) for image in listing.images}
    if len(labels) == 1 and not listing.empty_folders:
        raise DataError(
            f"two classes or more are needed, but all {len(listing.images):,} images are in folders of the class "
            f"{labels.pop()!r}: put each image into a folder named after its class."
        )
    _require_images_for_folds(listing, config)


def _require_class_folders(listing: Listing, config: DataConfig) -> None:
    """Raise DataError for folders whose names are hardly those of classes, unless somebody has named them as such."""
    if config.class_folder:
        return
    n_images = Counter(image.class_folder for image in listing.images)
    whys = {folder: why for folder in sorted(n_images) if (why := why_no_class(folder))}
    if not whys or (config.positive in whys and set(whys.values()) == {"a number"}):
        return
    n_wrong = sum(n_images[folder] for folder in whys)
    others = sorted(set(n_images) - set(whys))
    leave_out = f", or leave these out with {_as_options(others)}" if len(others) > 1 else ""
    raise DataError(
        f"{n_wrong:,} of {len(listing.images):,} images are in no folder named after a class, but in "
        f"{_shortened([f'{folder!r} ({why})' for folder, why in whys.items()])}: put each into one{leave_out}; if "
        f"these are classes, name every class: {_as_options(sorted(n_images))}."
    )


def _as_options(folders: Sequence[str]) -> str:
    return _shortened([f"--class-folder {folder!r}" for folder in folders], separator=" ")


def _shortened(names: Sequence[str], separator: str = ", ") -> str:
    return separator.join([*names[:MAX_NAMED], *["…"][: len(names) > MAX_NAMED]])


def require_split(holdout: str | None, splits: Collection[Any]) -> None:
    """Raise ConfigError unless the holdout is one of the images' splits, of which some may be missing."""
    known = sorted({split for split in splits if isinstance(split, str)})
    if holdout is not None and holdout not in known:
        raise ConfigError(f"--holdout {holdout!r} names no split of the data, which has {known or 'none'}.")


def _require_images_for_folds(listing: Listing, config: DataConfig) -> None:
    kept = [image for image in listing.images if config.holdout is None or image.split != config.holdout]
    n_images = Counter(label_of(image, config) for image in kept)
    for label, n in sorted(n_images.items(), key=lambda item: (item[1], item[0]))[:1]:
        if n < config.folds:
            fewer = f"give --folds {n} or less, or " if n > 1 else "give "
            noun = "image" if n == 1 else "images"
            raise FoldError(
                f"class {label!r} has {n} {noun}, fewer than the {config.folds} folds: {fewer}more images of that "
                "class."
            )


def require_labels(listing: Listing, config: DataConfig) -> None:
    """Check what folders and file names say about the classes.

    Raises:
        DataError: two names of classes differ only in letter case, spaces or Unicode form.
        ConfigError: `positive` does not fit the classes; or nothing says which of several findings an image has.
    """
    if config.has_findings:
        require_source(config)
        return
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
        order_classes(labels, config.positive)


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
    return order_classes(names, config.positive)


def order_classes(names: Sequence[str], given: str | None) -> list[str]:
    """Return class names in output order: sorted; for two classes the positive class is last.

    Args:
        names: of the classes.
        given: the positive class that was asked for; None for the default.

    Raises:
        ConfigError: `positive` is not one of two classes, or is given for more than two.
    """
    if len(names) > 2:
        if given is not None:
            raise ConfigError(f"--positive is for two classes; {len(names)} were found: {', '.join(names)}.")
        return sorted(names)
    positive = given or DEFAULT_POSITIVE
    if positive not in names:
        *quoted, shown = spell_apart([*sorted(names), positive])
        reason = f"got {shown}" if given else f"as neither is {shown}, the default"
        raise ConfigError(f"--positive must name one of the classes {' and '.join(quoted)}, {reason}.")
    return sorted(names, key=lambda name: (name == positive, name))
