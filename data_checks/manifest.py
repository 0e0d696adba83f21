"""The suite of `manifest.parquet`. Grain: one row per image found.

An image that cannot be used is a row with a reason, so one damaged file is a warning; a folder in which many
are, or an image under two labels, or a class that no fold can hold, is critical.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from data_checks.expect import absent, all_of, between, matching, one_of, present, unique
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

GRAIN = "one row per image found"
NAMES = ["path"]
MODES = ["L", "RGB", "I;16", "MONOCHROME1", "MONOCHROME2"]


def describe(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the manifest beside what its expectations need; a value is missing where it does not apply."""
    readable = manifest["status"] != "unreadable"
    used = manifest["status"] == "used"
    label, patient = manifest["label"], manifest["patient_id"].fillna(manifest["image_id"])
    ratio = manifest["width"] / manifest["height"]
    return manifest.assign(
        folder=manifest["path"].str.rpartition("/")[0],
        identified=manifest["image_id"].where(readable, manifest["reason"]),
        unreadable_because=manifest["reason"].where(~readable),
        copy_of=manifest["reason"].where(manifest["status"] == "duplicate"),
        used_label=label.where(used),
        labels_of_these_bytes=manifest[readable].groupby("image_id")["label"].transform("nunique"),
        side=manifest[["width", "height"]].min(axis=1),
        elongation=pd.concat([ratio, 1 / ratio], axis=1).max(axis=1),
        patients_of_class=patient[used].groupby(label[used]).transform("nunique"),
        share_of_class=label[used].map(label[used].value_counts(normalize=True)),
        images_of_patient=manifest[used].groupby("patient_id")["path"].transform("size"),
        classes_of_patient=manifest[used].groupby("patient_id")["label"].transform("nunique"),
        usual_bits=(manifest["bits"] == _most_frequent(manifest["bits"])).where(readable).astype("object"),
        plain_path=manifest["path"].str.fullmatch(r"[A-Za-z0-9._/-]+"),
    )


def _most_frequent(values: pd.Series) -> object:
    return next(iter(values.value_counts().index), None)


def expectations(
    n_folds: int, class_folders: Sequence[str], folders: Sequence[str], limit: Tolerances
) -> list["Expectation"]:
    """Return the suite.

    Args:
        n_folds: each class needs as many patients.
        class_folders: names of the classes, those of empty folders too.
        folders: paths of the folders in which images lie or should.
        limit: the tolerances.
    """
    return [*_identity(), *_labels(n_folds, class_folders, folders, limit), *_pixels(limit), *_remarks(limit)]


def _identity() -> list["Expectation"]:
    statuses = ["used", "duplicate", "unreadable"]
    return [
        unique("path", "critical", "Every file stands in one row."),
        present(
            "identified", "critical", "Every image has the hash of its content, or a reason why it cannot be read."
        ),
        matching("image_id", "critical", "An image's id is the SHA-256 of its bytes.", "^[0-9a-f]{64}$"),
        one_of("status", "critical", "Every image is used, a duplicate, or unreadable.", statuses),
        present("label", "critical", "Every image has a label."),
    ]


def _labels(
    n_folds: int, class_folders: Sequence[str], folders: Sequence[str], limit: Tolerances
) -> list["Expectation"]:
    enough = f"Each class has {n_folds} patients or more, one for each fold: give fewer folds or more images."
    filled = "Every class folder holds an image that can be used: fill it or remove it."
    common = f"Each class makes up {limit.class_share:.0%} of the used images or more."
    return [
        between("labels_of_these_bytes", "critical", "The same bytes have one label: remove the wrong copy.", most=1),
        all_of("used_label", "critical", filled, class_folders),
        all_of("folder", "warning", "No class folder of a split is empty.", folders),
        between("patients_of_class", "critical", enough, least=n_folds),
        between("share_of_class", "warning", common, least=limit.class_share),
    ]


def _pixels(limit: Tolerances) -> list["Expectation"]:
    readable, blank, contrast = limit.readable_share, limit.blank_share, limit.blank_contrast
    many_readable = f"{readable:.0%} of the files or more can be read."
    few_blank = f"At most {blank:.0%} of the images are blank."
    dark = f"At most {limit.dark_share:.0%} of an image is black."
    bright = f"At most {limit.bright_share:.0%} of an image is saturated."
    large = f"Every image has {limit.min_side_px:g} pixels a side or more."
    shape = f"No image is more than {limit.max_aspect:g} times as long as wide."
    bits = "All images have the same bits per pixel; others came another way, and that may tell the label."
    modes = "Images are stored as grey, RGB, 16-bit grey or DICOM; anything else was worked on before."
    return [
        absent("unreadable_because", "critical", many_readable, mostly=readable),
        absent("unreadable_because", "warning", "Every file can be read; those that cannot are left out."),
        between("contrast", "critical", few_blank, least=contrast, mostly=1 - blank),
        between("contrast", "warning", "No image is blank: remove those that are.", least=contrast),
        between("dark_share", "warning", dark, most=limit.dark_share),
        between("bright_share", "warning", bright, most=limit.bright_share),
        between("chroma", "warning", "No image is a colour photograph.", most=limit.chroma),
        between("side", "warning", large, least=limit.min_side_px),
        between("elongation", "warning", shape, most=limit.max_aspect),
        one_of("usual_bits", "warning", bits, [True]),
        one_of("mode", "warning", modes, MODES),
    ]


def _remarks(limit: Tolerances) -> list["Expectation"]:
    most_images = limit.images_per_patient
    lumped = f"No patient has more than {most_images:g} images; if one has, does the pattern find the id?"
    traced = "Every image tells its patient; where it does not, leakage between folds is not excluded."
    once = "No image is there twice, byte for byte; copies are neither trained on nor judged."
    plain = "Paths are plain letters, digits, '.', '_' and '-'; others work here and may trip other tools."
    return [
        between("images_of_patient", "warning", lumped, most=most_images),
        present("patient_id", "warning", traced),
        absent("copy_of", "info", once),
        between(
            "classes_of_patient", "info", "A patient's images are of one class; if not, is it one patient?", most=1
        ),
        one_of("plain_path", "info", plain, [True]),
    ]
