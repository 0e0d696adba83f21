"""The suite of `manifest.parquet`. Grain: one row per image found.

An image that cannot be used has a row with the reason, so a single damaged file is only a warning. Critical are many
damaged files, an image with two labels, and a class with too few patients for the folds.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from cxr.classes import Findings
from cxr.dataset.known_patients import NOBODY, most_images_of_a_patient
from cxr.dataset.patients import SHARED
from cxr.wording import percent
from data_checks.expect import absent, all_of, between, matching, one_of, present, unique
from data_checks.suite import Table
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

TABLE = Table("manifest", "one row per image found", ("path",))
MODES = ["L", "RGB", "I;16", "MONOCHROME1", "MONOCHROME2"]


def describe(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the manifest with the columns that the expectations ask about.

    A value is missing where its expectation does not apply to the image.
    What is expected of a class does not apply to images with several findings; `findings` checks those.
    """
    readable = manifest["status"] != "unreadable"
    used = manifest["status"] == "used"
    has_findings = bool(Findings.of_columns(manifest.columns))
    label = manifest["label"].mask(pd.Series(has_findings, manifest.index))
    patient = manifest["patient_id"].fillna(manifest["image_id"])
    ratio = manifest["width"] / manifest["height"]
    return manifest.assign(
        folder=manifest["path"].str.rpartition("/")[0],
        identified=manifest["image_id"].where(readable, manifest["reason"]),
        unreadable_because=manifest["reason"].where(~readable),
        copy_of=manifest["reason"].where(manifest["status"] == "duplicate"),
        used_label=label.where(used),
        labels_of_these_bytes=_labels_of_these_bytes(manifest[readable]),
        side=manifest[["width", "height"]].min(axis=1),
        elongation=pd.concat([ratio, 1 / ratio], axis=1).max(axis=1),
        patients_of_class=patient[used].groupby(label[used]).transform("nunique"),
        share_of_class=label[used].map(label[used].value_counts(normalize=True)),
        shared_patient_id=manifest["reason"].where(used & (manifest["reason"] == SHARED)),
        images_of_patient=manifest[used].groupby("patient_id")["path"].transform("size"),
        classes_of_patient=label[used].groupby(manifest.loc[used, "patient_id"]).transform("nunique"),
        images_of_largest_patient=_once(manifest.index, most_images_of_a_patient(manifest[used])),
        usual_bits=(manifest["bits"] == _most_frequent(manifest["bits"])).where(readable).astype("object"),
        plain_path=manifest["path"].str.fullmatch(r"[A-Za-z0-9._/-]+"),
    )


def _labels_of_these_bytes(images: pd.DataFrame) -> pd.Series:
    """Return how many labels the copies of each image have; an unknown finding contradicts none."""
    columns = Findings.of_columns(images.columns).columns or ["label"]
    return images.groupby("image_id")[columns].transform("nunique").max(axis=1)


def _most_frequent(values: pd.Series) -> object:
    return next(iter(values.value_counts().index), None)


def _once(index: pd.Index, value: int) -> pd.Series:
    """Return a value that is of the whole table, in its first row alone: one exception, not one for each row."""
    return pd.Series([float(value)] * min(1, len(index)), index[:1]).reindex(index)


def expectations(
    n_folds: int, class_folders: Sequence[str], folders: Sequence[str], limit: Tolerances
) -> list["Expectation"]:
    """Return the suite.

    Args:
        n_folds: number of folds; every class needs at least as many patients.
        class_folders: names of the classes, including those whose folders are empty; none where images have several
            findings.
        folders: paths of all folders that hold images or should hold some.
        limit: the tolerances.
    """
    return [*_identity(), *_labels(n_folds, class_folders, folders, limit), *_pixels(limit), *_remarks(limit)]


def _identity() -> list["Expectation"]:
    statuses = ["used", "duplicate", "unreadable"]
    identified = "Every image has a hash of its content, or the reason why it cannot be read."
    return [
        unique("path", "critical", "Every file has exactly one row."),
        present("identified", "critical", identified),
        matching("image_id", "critical", "The id of an image is the SHA-256 of its bytes.", "^[0-9a-f]{64}$"),
        one_of("status", "critical", "Every image is used, a duplicate or unreadable.", statuses),
        present("label", "critical", "Every image has a label."),
    ]


def _labels(
    n_folds: int, class_folders: Sequence[str], folders: Sequence[str], limit: Tolerances
) -> list["Expectation"]:
    enough = f"Every class has at least {n_folds} patients, one for each fold: use fewer folds or more images."
    filled = "Every class folder holds at least one usable image: fill the folder or remove it."
    common = f"Every class makes up at least {percent(limit.class_share)} of the used images."
    return [
        between("labels_of_these_bytes", "critical", "Identical bytes have one label: remove the wrong copy.", most=1),
        *([all_of("used_label", "critical", filled, class_folders)] if class_folders else []),
        all_of("folder", "warning", "No class folder of a split is empty.", folders),
        between("patients_of_class", "critical", enough, least=n_folds),
        between("share_of_class", "warning", common, least=limit.class_share),
    ]


def _pixels(limit: Tolerances) -> list["Expectation"]:
    many_readable = f"At least {percent(limit.readable_share)} of the files can be read."
    few_blank = f"At most {percent(limit.blank_share)} of the images are blank."
    dark = f"At most {percent(limit.dark_share)} of an image is black."
    bright = f"At most {percent(limit.bright_share)} of an image is saturated."
    large = f"Every image is at least {limit.min_side_px:g} pixels wide and high."
    shape = f"The longer side of an image is at most {limit.max_aspect:g} times the shorter one."
    bits = "All images have the same bits per pixel; an exception has another origin, which may give away its label."
    modes = "Images are stored as grey, RGB, 16-bit grey or DICOM; any other mode means that they were edited."
    return [
        absent("unreadable_because", "critical", many_readable, mostly=limit.readable_share),
        absent("unreadable_because", "warning", "Every file can be read; unreadable files are left out."),
        between("contrast", "critical", few_blank, least=limit.blank_contrast, mostly=1 - limit.blank_share),
        between("contrast", "warning", "No image is blank: remove blank images.", least=limit.blank_contrast),
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
    lumped = f"No patient has more than {most_images:g} images; if one has, check the pattern that finds patient ids."
    own = (
        "Every PatientID is a patient's; one that many share counts as missing, and --patient-pattern is used instead."
    )
    traced = "Every image has a patient id; without it, leakage between folds cannot be ruled out."
    several = f"Some patients have several images. Otherwise {NOBODY}."
    once = "No image occurs twice, byte for byte; copies are used neither in training nor in evaluation."
    plain = "Paths hold only plain letters, digits, '.', '_' and '-'; others work in cxr but may break other tools."
    one_class = "All images of a patient are of one class; if not, check that it is one patient."
    return [
        between("images_of_patient", "warning", lumped, most=most_images),
        absent("shared_patient_id", "warning", own),
        present("patient_id", "warning", traced),
        between("images_of_largest_patient", "warning", several, least=2),
        absent("copy_of", "info", once),
        between("classes_of_patient", "info", one_class, most=1),
        one_of("plain_path", "info", plain, [True]),
    ]
