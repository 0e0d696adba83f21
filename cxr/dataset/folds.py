"""Fold assignment: which images are held out together.

No patient is in two folds: images of one person look alike, and a split by image inflates AUC. A group is all images
that are connected by a patient id, identical bytes or a verified near-duplicate (union-find); an image without any of
these is a group of its own. scikit-learn's StratifiedGroupKFold assigns groups to folds, or each fold is a cluster of
images acquired alike (`cxr.dataset.clusters`), or groups are stratified over several findings
(`cxr.dataset.findings`).

The leakage certificate states what was kept apart. It is computed from the tables, not from the variables of the
assignment, and is computed again and compared whenever folds are read.

In the Kaggle set the numbering seems to restart per series (bacterial, viral), so `person12` may be two people. The
coarse key, the bare number, is safe under both readings and is the one used; the certificate reports under both how
many ids are in more than one of the archive's own splits.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import Findings
from cxr.config import ADDED, KAGGLE_PATIENT, DataConfig
from cxr.dataset.clusters import assign_clusters
from cxr.dataset.findings import assign_by_findings, count_by_class, count_findings, require_finding_groups
from cxr.dataset.known_patients import COUNTED, count_patients, patient_sources, pattern_words
from cxr.dataset.listing.labels import require_split
from cxr.dataset.near_duplicates import verified_pairs
from cxr.errors import ConfigError, FoldError
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder

COLUMNS = ["image_id", "path", "label", "group_id", "fold"]
HASHED = {"table": "column of the tables of labels", "dicom": "PatientID of DICOM"}
"""Where keyed hashes of patients come from, by `patient_from`."""


def assign_folds(manifest: pd.DataFrame, near_duplicates: pd.DataFrame, config: DataConfig) -> pd.DataFrame:
    """Return one row per readable image outside the holdout: image_id, path, label, group_id, fold, finding_<name>.

    The last are there only where images have several findings.

    Raises:
        ConfigError: the holdout names no split of the data, or takes all of it.
        FoldError: a class has fewer groups than there are folds, or too few that were acquired differently; or a
            finding has too few to be learnt.
    """
    images = cross_validated(manifest, near_duplicates, config.holdout)
    images["group_id"] = group_images(images, near_duplicates)
    if config.has_findings:
        require_finding_groups(images, config.folds)
        images["fold"] = assign_by_findings(images, config.folds, config.seed)
        return images[[*COLUMNS, *Findings.of_columns(images.columns).columns]]
    _require_groups(images, config.folds)
    if config.leave_out == "cluster":
        images["fold"] = assign_clusters(images, config.folds, config.seed)
    else:
        images["fold"] = assign_at_random(images, config.folds, config.seed)
    return images[COLUMNS]


def assign_at_random(images: pd.DataFrame, n_folds: int, seed: int) -> NDArray[np.int32]:
    """Return the fold of each image, shape (n,): groups at random, with each class by its share.

    Args:
        images: columns label and group_id; each class has at least `n_folds` groups.
        n_folds: 2 or more.
        seed: the same seed gives the same folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes long, and a fold's process does not need it

    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    fold = np.empty(len(images), dtype=np.int32)
    for number, (_, held_out) in enumerate(splitter.split(images, images["label"], images["group_id"])):
        fold[held_out] = number
    return fold


def cross_validated(manifest: pd.DataFrame, near_duplicates: pd.DataFrame, holdout: str | None) -> pd.DataFrame:
    """Return the readable images outside the holdout, without copies and near-duplicates of images inside it.

    Raises:
        ConfigError: the holdout names no split of the data, or takes all of it.
    """
    readable = manifest[manifest["status"] != "unreadable"]
    if holdout is not None:
        require_split(holdout, readable["split"].tolist())
        held_out = set(readable.loc[readable["split"] == holdout, "image_id"])
        copies = {image_id for pair in verified_pairs(near_duplicates) if held_out & set(pair) for image_id in pair}
        readable = readable[~readable["image_id"].isin(held_out | copies)]
        if readable.empty:
            raise ConfigError(f"--holdout {holdout!r} leaves no image for cross-validation.")
    return readable.reset_index(drop=True)


def group_images(images: pd.DataFrame, near_duplicates: pd.DataFrame) -> pd.Series:
    """Return each image's group id: the first patient id of its group in sort order, or else the first image_id.

    Args:
        images: needs image_id and patient_id (missing where an image has none).
        near_duplicates: pairs of images; the two images of a verified pair are put into one group.
    """
    from scipy.cluster.hierarchy import DisjointSet  # takes a while, and a fold's process does not need it

    groups: DisjointSet = DisjointSet()
    for image_id, patient_id in zip(images["image_id"], images["patient_id"], strict=True):
        groups.add(("image", image_id))
        if isinstance(patient_id, str):
            groups.add(("a patient", patient_id))  # sorts before "image": a group is named after a patient
            groups.merge(("a patient", patient_id), ("image", image_id))
    for a, b in verified_pairs(near_duplicates):
        if ("image", a) in groups and ("image", b) in groups:
            groups.merge(("image", a), ("image", b))
    names = {member: min(subset)[1] for subset in groups.subsets() for member in subset}
    return images["image_id"].map(lambda image_id: names["image", image_id])


def _require_groups(images: pd.DataFrame, n_folds: int) -> None:
    n_groups = images.groupby("label")["group_id"].nunique().sort_values()
    label, n_least = n_groups.index[0], int(n_groups.iloc[0])
    if n_least >= n_folds:
        return
    if n_least > 1:
        way_out = f"give --folds {n_least} or less, or more images of that class."
    else:
        way_out = (
            f"all belong to {images.loc[images['label'] == label, 'group_id'].iloc[0]!r}. Give images of more "
            "patients; if these are of several, give the --patient-pattern that finds them."
        )
    noun = "groups" if n_least > 1 else "group"
    raise FoldError(
        f"class {label!r} has {n_least} {noun} of images (patients), fewer than the {n_folds} folds: {way_out}"
    )


def certify(
    manifest: pd.DataFrame, near_duplicates: pd.DataFrame, folds: pd.DataFrame, config: DataConfig
) -> dict[str, Any]:
    """Return the leakage certificate, recomputed from the tables alone.

    Raises:
        FoldError: an image is missing or has two rows, or a group, patient, identical image or near-duplicate pair is
            in two folds; the message names the first.
    """
    known = trace_images(manifest, near_duplicates, folds, config)
    _require_each_image_once(known)
    crossing = _require_nothing_crosses(known, near_duplicates)
    whole = manifest[manifest["status"] != "unreadable"]
    whole = whole.assign(series_id=whole["patient_id"] + " " + whole["subtype"].fillna(""))
    return {
        **({"findings": count_findings(folds)} if config.has_findings else {}),
        "n_images": len(folds),
        "n_groups": int(folds["group_id"].nunique()),
        "n_patient_ids": int(known["patient_id"].nunique()),
        "n_images_without_patient_id": int(known["patient_id"].isna().sum()),
        "patient_key": _patient_key(known, config),
        **count_patients(known),
        "leave_out": config.leave_out,
        "holdout": config.holdout,
        "n_images_held_out": int((whole["split"] == config.holdout).sum()) if config.holdout else 0,
        "n_near_duplicate_pairs": len(verified_pairs(near_duplicates)),
        **crossing,
        "patient_ids_crossing_archive_splits": {
            "coarse_key": len(_crossing(whole, "patient_id", "split")),
            "series_key": len(_crossing(whole, "series_id", "split")),
        },
        "folds": [_count_fold(number, fold, config) for number, fold in folds.groupby("fold")],
    }


def _require_nothing_crosses(known: pd.DataFrame, near_duplicates: pd.DataFrame) -> dict[str, int]:
    """Return how many groups, patients and copies are in two folds; that is 0 each, or FoldError names the first."""
    crossing = {
        "groups": _crossing(known, "group_id", "fold"),
        "patient_ids": _crossing(known, "patient_id", "fold"),
        "identical_bytes": _crossing(known, "image_id", "fold"),
        "near_duplicates": _parted_pairs(known, near_duplicates),
    }
    for name, ids in crossing.items():
        if ids:
            raise FoldError(
                f"folds leak: {len(ids)} {name.replace('_', ' ')} in two folds, first {ids[0]!r}. Begin a new run."
            )
    return {f"{name}_crossing_folds": len(ids) for name, ids in crossing.items()}


def _count_fold(number: Any, fold: pd.DataFrame, config: DataConfig) -> dict[str, Any]:
    by_label = {label: int(n) for label, n in fold["label"].value_counts().sort_index().items()}
    return {
        "fold": int(number),
        "n_images": len(fold),
        "n_groups": int(fold["group_id"].nunique()),
        "n_images_per_class": count_by_class(fold) if config.has_findings else by_label,
    }


def trace_images(
    manifest: pd.DataFrame, near_duplicates: pd.DataFrame, folds: pd.DataFrame, config: DataConfig
) -> pd.DataFrame:
    """Return the folds joined with the manifest: one row per image in either, more if the folds repeat an image.

    Columns: those of the folds (missing where an image has no fold), patient_id, patient_from, subtype, split,
    true_group (the group computed again from the manifest; missing where the image is not in the manifest) and n_rows
    (of the image's path).
    """
    images = cross_validated(manifest, near_duplicates, config.holdout)
    images["true_group"] = group_images(images, near_duplicates)
    images["patient_from"] = patient_sources(images)
    facts = ["path", "patient_id", "patient_from", "subtype", "split", "true_group"]
    known = folds.merge(images[facts], on="path", how="outer")
    return known.assign(n_rows=known.groupby("path")["path"].transform("size"))


def _require_each_image_once(known: pd.DataFrame) -> None:
    for is_wrong, what in (
        (known["n_rows"] > 1, "is in two rows"),
        (known["fold"].isna(), "is missing"),
        (known["true_group"].isna(), "is not in the manifest"),
        (known["group_id"] != known["true_group"], "is in another group"),
    ):
        if is_wrong.any():
            row = known[is_wrong].iloc[0]
            group = row["true_group"] if isinstance(row["true_group"], str) else row["group_id"]
            raise FoldError(f"folds are damaged: {row['path']!r} of group {group!r} {what}. Begin a new run.")


def _crossing(images: pd.DataFrame, key: str, boundary: str) -> list[str]:
    """Return the values of `key` that occur with more than one value of `boundary`; missing values do not count."""
    sides = images.groupby(key)[boundary].nunique()
    return sides[sides > 1].index.astype(str).tolist()


def _parted_pairs(known: pd.DataFrame, near_duplicates: pd.DataFrame) -> list[str]:
    """Return the groups that have a verified near-duplicate pair in two folds."""
    image = known.drop_duplicates("image_id").set_index("image_id")
    fold = image["fold"].to_dict()
    group = image["true_group"].to_dict()
    pairs = [(a, b) for a, b in verified_pairs(near_duplicates) if a in fold and b in fold]
    return sorted({str(group[a]) for a, b in pairs if fold[a] != fold[b]})


def _patient_key(known: pd.DataFrame, config: DataConfig) -> str:
    """Return where ids come from, in the words that the certificates of older runs have."""
    sources = set(known["patient_from"].dropna())
    if not sources:
        return "none: no file name holds a patient id, so every image is its own group and leakage is not excluded"
    is_default = config.patient_pattern == KAGGLE_PATIENT
    pattern = repr(config.patient_pattern) if is_default else pattern_words(config.patient_pattern)
    from_path = f"{'path' if 'path' in sources else 'file name'}, first group of {pattern}"
    hashed = [f"{words} as a keyed hash" for source, words in HASHED.items() if source in sources]
    return ", or ".join([*hashed, from_path])


def read_folds(run: RunFolder, config: DataConfig) -> pd.DataFrame:
    """Return the run's folds after certifying them again.

    Raises:
        FoldError: the folds leak, are damaged, or do not match the stored certificate.
    """
    folds = verified.read_table(run.folds)
    manifest = verified.read_table(run.manifest)
    near_duplicates = verified.read_table(run.near_duplicates)
    certificate = certify(manifest, near_duplicates, folds, config)
    stored = {"leave_out": ADDED["leave_out"]} | verified.read_json(run.certificate)
    counted_since = set(COUNTED) - stored.keys()
    names = (certificate.keys() | stored.keys()) - counted_since
    changed = sorted(name for name in names if certificate.get(name) != stored.get(name))
    if changed:
        raise FoldError(f"folds of run {run.run_id} were changed after they were certified ({', '.join(changed)}).")
    return folds
