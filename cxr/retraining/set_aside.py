"""Which patients labelled since are set aside, so that the champion and the new model can be compared on their images.

A patient is set aside if the hash of their id and a seed falls below the share: the same patients every time, whatever
else is labelled. A group of images (of a patient, identical, or near-duplicates) that has an image which the champion
was made from is never set aside.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from cxr.classes import Classes
from cxr.config import TrainConfig
from cxr.dataset.folds import group_images
from cxr.dataset.listing.layout import Listing, SourceImage
from cxr.dataset.manifest import build_manifest
from cxr.dataset.near_duplicates import find_near_duplicates
from cxr.dataset.pictures import thumbnails_of
from cxr.errors import DataError
from cxr.images.image_table import ImageTable
from cxr.images.source import open_source
from cxr.images.vitals import open_vitals
from cxr.retraining.images import FROM_DATA, FROM_FEEDBACK, patients

LEAST = 10
"""Patients of each class that have to be set aside: of fewer, no interval would show that a model is as good."""


def with_groups(images: pd.DataFrame, config: TrainConfig, cache: Path) -> pd.DataFrame:
    """Return the images that can be read, with their group and their patients.

    Args:
        images: as `images_of_run` returns them.
        config: of the champion's run, which says where patients are in the names of files.
        cache: gets thumbnails with vital signs.
    """
    source = ImageTable(images, open_source)
    rows = images.astype({"patient_id": object})[["path", "label", "split", "n_bytes", "patient_id"]]
    rows = rows.where(rows.notna(), None)
    listed = [
        SourceImage(path, path, label, split, n_bytes, patient_id)
        for path, label, split, n_bytes, patient_id in rows.itertuples(index=False, name=None)
    ]
    listing = Listing(listed, [], [])
    manifest = build_manifest(source, listing, config, cache)
    manifest["patient_id"] = patients(manifest["patient_id"])
    near = find_near_duplicates(manifest, open_vitals(cache), thumbnails_of(source, listing, config))
    readable = manifest[manifest["status"] != "unreadable"]
    found = readable[["path", "patient_id"]].assign(group_id=group_images(readable, near))
    return images.drop(columns="patient_id").merge(found, on="path")


def are_set_aside(images: pd.DataFrame, trained: Collection[str], share: float, seed: int) -> pd.Series:
    """Return whether each image is set aside.

    Args:
        images: as `with_groups` returns them.
        trained: the image_id of each image that the champion was made from, or of which it has a copy.
        share: of the patients that came since.
        seed: another one sets other patients aside.
    """
    is_known = (images["origin"] == FROM_DATA) | images["image_id"].isin(trained)
    is_free = ~is_known.groupby(images["group_id"]).transform("any")
    place = images["patient_id"].where(images["patient_id"].notna(), images["image_id"])
    place = place.map(lambda key: _fraction(f"{seed} {key}")).groupby(images["group_id"]).transform("min")
    return is_free & (place < share)


def _fraction(text: str) -> float:
    """Return a number from 0 to 1 that follows from a text, as if drawn at random."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12


def require_enough(images: pd.DataFrame, is_set_aside: pd.Series, classes: Classes, share: float) -> None:
    """Check that there are images to compare on, and new ones to train on.

    Raises:
        DataError: too few patients of a class are set aside, or no new image is left to train on.
    """
    n_patients = images[is_set_aside].groupby("label")["group_id"].nunique().reindex(classes, fill_value=0)
    is_new = images["origin"] == FROM_FEEDBACK
    if (n_patients < LEAST).any():
        found = ", ".join(f"{n} of {name}" for name, n in n_patients.items())
        raise DataError(
            f"{LEAST} patients of each class or more have to be set aside, which neither model was trained on, and a "
            f"share of {share:g} of the {int(is_new.sum()):,} newly labelled images gives {found}: label more images, "
            "or give a larger --share."
        )
    if not (is_new & ~is_set_aside).any():
        raise DataError(
            f"a share of {share:g} sets all {int(is_new.sum()):,} newly labelled images aside, and none is left to "
            "train on: label more images, or give a smaller --share."
        )
