"""Findings: which of them each image has, how folds are balanced over them, and how many there are in each fold.

A manifest of images with several findings holds a nullable boolean column `finding_<name>` for each finding: present,
absent, or missing where nobody knows. `label` is all of them as one text, such as `Effusion|Mass?`, in which a question
mark stands for unknown; so images whose findings differ differ in their label.

Folds are balanced over findings by iterative stratification: the finding with the fewest images left is dealt out
first, a group of images (a patient) at a time, to the fold that lacks it most.

Source: Sechidis, Tsoumakas & Vlahavas, On the stratification of multi-label data, ECML PKDD 2011.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import NO_FINDING, SEPARATOR, Findings
from cxr.config import DataConfig
from cxr.errors import ConfigError, FoldError

log = logging.getLogger(__name__)

SUBTYPES = Findings(("bacteria", "virus"))
"""What file names of the Kaggle set say about an image."""
LEAST_GROUPS = 2
"""Groups with a finding, and without it, that a network can be trained on while another is held out."""


def label_findings(
    manifest: pd.DataFrame, class_folders: Sequence[str], config: DataConfig, table: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the manifest with a column for each finding, and with all of them as its label.

    Args:
        manifest: column path, and subtype if there is no table.
        class_folders: of each image.
        config: says where findings come from if there is no table.
        table: a nullable boolean column for each finding, by path.

    Raises:
        ConfigError: nothing says which findings an image has, or two findings are spelt almost alike.
    """
    require_source(config)
    if table is None:
        manifest = _with_subtypes(manifest, class_folders)
    else:
        known = as_columns(table).reindex(manifest["path"])
        manifest = pd.concat([manifest, known.set_axis(manifest.index)], axis=1)
    findings = Findings.of_columns(manifest.columns)
    return manifest.assign(label=describe_findings(manifest[findings.columns]))


def as_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of findings, a column each, with the columns of a manifest."""
    columns = dict(zip(table.columns, Findings(table.columns).columns, strict=True))
    return table.rename(columns=columns).astype("boolean")


def require_source(config: DataConfig) -> None:
    """Raise ConfigError if neither file names nor a table say which findings an image has."""
    if config.label_from != "subtype" and not config.reads_tables:
        raise ConfigError(
            "--task multi needs to know which findings an image has, and a folder names only one class: give --labels "
            "FILE, or --label-from subtype, which takes bacteria and virus in file names for two findings."
        )


def _with_subtypes(manifest: pd.DataFrame, class_folders: Sequence[str]) -> pd.DataFrame:
    """Return the manifest with bacteria and virus as findings, from the names of its files.

    Where some images of a class folder have a subtype, those without one are unknown; in other folders both findings
    are absent.
    """
    folder = pd.Series(class_folders, manifest.index)
    subtype = manifest["subtype"]
    is_unknown = subtype.isna() & folder.isin(folder[subtype.notna()])
    columns = {
        column: (subtype == name).astype("boolean").mask(is_unknown)
        for name, column in zip(SUBTYPES, SUBTYPES.columns, strict=True)
    }
    return manifest.assign(**columns)


def describe_findings(labels: pd.DataFrame) -> pd.Series:
    """Return each image's findings as one text: those present, and with a question mark those that are unknown.

    Args:
        labels: a nullable boolean column for each finding.
    """
    text: Any = pd.Series("", labels.index, dtype=object)
    for name, column in zip(Findings.of_columns(labels.columns), labels, strict=True):
        present = labels[column].fillna(False).to_numpy(bool)
        unknown = labels[column].isna().to_numpy()
        text += np.select([present, unknown], [f"{name}{SEPARATOR}", f"{name}?{SEPARATOR}"], "").astype(object)
    return text.str.removesuffix(SEPARATOR).replace("", NO_FINDING).astype("str")


def known_labels(images: pd.DataFrame, findings: Findings) -> NDArray[np.float64]:
    """Return each image's findings, shape (n, n_findings): 1 where present, 0 where absent, NaN where unknown."""
    return images[findings.columns].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)


def require_finding_groups(images: pd.DataFrame, n_folds: int) -> None:
    """Check that each finding can be learnt, and say which cannot be evaluated in every fold.

    Args:
        images: columns group_id and finding_<name>.
        n_folds: number of folds.

    Raises:
        FoldError: a finding is present, or absent, in fewer than two groups of images; or there are fewer groups than
            folds.
    """
    n_groups = images["group_id"].nunique()
    if n_groups < n_folds:
        raise FoldError(f"there are {n_groups} groups of images (patients), fewer than the {n_folds} folds.")
    for name, counts in count_findings(images).items():
        for state in ("present", "absent"):
            n = counts[f"n_groups_{state}"]
            if n < LEAST_GROUPS:
                raise FoldError(
                    f"finding {name!r} is {state} in images of {n} groups (patients), and needs {LEAST_GROUPS} at "
                    "least: leave the finding out, or add images."
                )
        if counts["n_groups_present"] < n_folds:
            log.warning(
                "finding %r is present in images of %d groups (patients), fewer than the %d folds: in a fold without "
                "it, its metrics are undefined",
                name,
                counts["n_groups_present"],
                n_folds,
            )


def count_findings(images: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return how many images have each finding: n_present, n_absent, n_unknown, n_groups_present and n_groups_absent.

    Args:
        images: columns group_id and finding_<name>.
    """
    findings = Findings.of_columns(images.columns)
    columns = zip(findings, findings.columns, strict=True)
    return {name: _count(images[column], images["group_id"]) for name, column in columns}


def _count(label: pd.Series, group: pd.Series) -> dict[str, int]:
    present = label.fillna(False).to_numpy(bool)
    absent = (~label).fillna(False).to_numpy(bool)
    return {
        "n_present": int(present.sum()),
        "n_absent": int(absent.sum()),
        "n_unknown": int(label.isna().sum()),
        "n_groups_present": int(group[present].nunique()),
        "n_groups_absent": int(group[absent].nunique()),
    }


def count_by_class(images: pd.DataFrame) -> dict[str, int]:
    """Return how many images have each finding and how many do not, under the names of the two as classes."""
    findings = Findings.of_columns(images.columns)
    counts = count_findings(images)
    states = ("n_absent", "n_present")
    return {
        label: counts[name][state]
        for name in findings
        for state, label in zip(states, findings.against_absence(name), strict=True)
    }


def assign_by_findings(images: pd.DataFrame, n_folds: int, seed: int) -> NDArray[np.int32]:
    """Return the fold of each image, shape (n,): groups at random, with each finding by its share.

    Presence and absence of a finding are balanced, each of them, so that its share is alike in all folds also where
    many images are unknown.

    Args:
        images: columns group_id and finding_<name>.
        n_folds: number of folds.
        seed: of the order in which groups that are alike are dealt out.
    """
    group = images["group_id"].factorize()[0]
    labels = known_labels(images, Findings.of_columns(images.columns))
    traits: list[Any] = [*(labels == 1).T, *(labels == 0).T, np.ones(len(images))]
    counts = np.stack([np.bincount(group, trait) for trait in traits], axis=1)
    return stratify(counts.astype(np.float64), n_folds, seed)[group]


def stratify(counts_GT: NDArray[np.float64], n_folds: int, seed: int) -> NDArray[np.int32]:
    """Return the fold of each group, shape (G,), such that each trait is spread evenly over the folds.

    Args:
        counts_GT: how many images of each group have each trait; the last trait is one that every image has.
        n_folds: number of folds.
        seed: of the order among groups that are alike.
    """
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(counts_GT))
    wanted_FT = np.tile(counts_GT.sum(axis=0) / n_folds, (n_folds, 1))
    fold = np.full(len(counts_GT), -1, dtype=np.int32)
    while (left := shuffled[fold[shuffled] < 0]).size:
        n_left = counts_GT[left].sum(axis=0)
        rarest = int(np.argmin(np.where(n_left > 0, n_left, np.inf)))
        members = left[counts_GT[left, rarest] > 0]
        for member in members[np.argsort(-counts_GT[members, rarest], kind="stable")]:
            at_random = generator.random(n_folds)
            fold[member] = np.lexsort((at_random, wanted_FT[:, -1], wanted_FT[:, rarest]))[-1]
            wanted_FT[fold[member]] -= counts_GT[member]
    return fold
