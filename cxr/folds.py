"""Fold assignment: which films are held out together.

A patient never stands in two folds: films of one person look alike, and a split by film flatters AUC.
A group is everything that a patient id or identical bytes tie together (union-find); films without an
id are a group each. Groups go to folds by scikit-learn's StratifiedGroupKFold.

The leakage certificate states what was kept apart. It is computed from the tables, not from the
assignment's own variables, and computed and compared again whenever folds are read.

In the Kaggle set numbering seems to restart per series (bacterial, viral), so `person12` may be two
people. The coarse key, the bare number, is safe under both readings and is the one used; how many ids
stand in more than one of the archive's own splits is reported under both.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet
from sklearn.model_selection import StratifiedGroupKFold

from cxr import store
from cxr.config import TrainConfig
from cxr.errors import ConfigError, FoldError
from cxr.store import RunFolder

COLUMNS = ["image_id", "path", "label", "group_id", "fold"]


def assign_folds(manifest: pd.DataFrame, config: TrainConfig) -> pd.DataFrame:
    """Return one row per readable film outside the holdout: image_id, path, label, group_id, fold.

    Raises:
        ConfigError: the holdout names no split of the data, or takes all of it.
        FoldError: a class has fewer groups than there are folds.
    """
    films = _cross_validated(manifest, config.holdout)
    films["group_id"] = group_films(films)
    _require_groups(films, config.folds)
    splitter = StratifiedGroupKFold(config.folds, shuffle=True, random_state=config.seed)
    fold = np.empty(len(films), dtype=np.int32)
    for number, (_, held_out) in enumerate(splitter.split(films, films["label"], films["group_id"])):
        fold[held_out] = number
    films["fold"] = fold
    return films[COLUMNS]


def _cross_validated(manifest: pd.DataFrame, holdout: str | None) -> pd.DataFrame:
    """Return the readable films outside the holdout, also without copies of films inside it."""
    readable = manifest[manifest["status"] != "unreadable"]
    if holdout is not None:
        held_out = readable[readable["split"] == holdout]
        if held_out.empty:
            splits = sorted(readable["split"].dropna().unique())
            raise ConfigError(f"--holdout {holdout!r} names no split of the data, which has {splits or 'none'}.")
        readable = readable[~readable["image_id"].isin(held_out["image_id"])]
        if readable.empty:
            raise ConfigError(f"--holdout {holdout!r} leaves no film for cross-validation.")
    return readable.reset_index(drop=True)


def group_films(films: pd.DataFrame) -> pd.Series:
    """Return each film's group id: the first patient id of its group in order, or the film's hash.

    Args:
        films: needs image_id and patient_id (None where the name has none).
    """
    groups: DisjointSet = DisjointSet()
    for image_id, patient_id in zip(films["image_id"], films["patient_id"], strict=True):
        groups.add(("image", image_id))
        if isinstance(patient_id, str):
            groups.add(("a patient", patient_id))  # sorts before "image": a group is called by a patient
            groups.merge(("a patient", patient_id), ("image", image_id))
    names = {member: min(subset)[1] for subset in groups.subsets() for member in subset}
    return films["image_id"].map(lambda image_id: names["image", image_id])


def _require_groups(films: pd.DataFrame, n_folds: int) -> None:
    n_groups = films.groupby("label")["group_id"].nunique().sort_values()
    if n_groups.iloc[0] < n_folds:
        raise FoldError(
            f"class {n_groups.index[0]!r} has {n_groups.iloc[0]} groups of films (patients), fewer than the "
            f"{n_folds} folds: give --folds {max(n_groups.iloc[0], 2)} or less, or more films of that class."
        )


def certify(manifest: pd.DataFrame, folds: pd.DataFrame, config: TrainConfig) -> dict[str, Any]:
    """Return the leakage certificate, recomputed from the tables alone.

    Raises:
        FoldError: a film is missing or doubled, or a group, patient or identical film stands in two folds.
    """
    expected = _cross_validated(manifest, config.holdout)
    _require_each_film_once(expected, folds)
    known = folds.merge(expected[["path", "patient_id", "subtype", "split"]], on="path", how="left")
    crossing = {
        f"{name}_crossing_folds": _crossing(known, column, "fold")
        for name, column in (("groups", "group_id"), ("patient_ids", "patient_id"), ("identical_bytes", "image_id"))
    }
    for name, ids in crossing.items():
        if ids:
            raise FoldError(f"folds leak: {len(ids)} {name.replace('_', ' ')}, first {ids[0]!r}. Begin a new run.")
    whole = manifest[manifest["status"] != "unreadable"]
    whole = whole.assign(series_id=whole["patient_id"] + " " + whole["subtype"].fillna(""))
    return {
        "n_films": len(folds),
        "n_groups": int(folds["group_id"].nunique()),
        "n_patient_ids": int(known["patient_id"].nunique()),
        "n_films_without_patient_id": int(known["patient_id"].isna().sum()),
        "patient_key": _patient_key(known, config),
        "holdout": config.holdout,
        "n_films_held_out": int((whole["split"] == config.holdout).sum()) if config.holdout else 0,
        **{name: len(ids) for name, ids in crossing.items()},
        "patient_ids_crossing_archive_splits": {
            "coarse_key": len(_crossing(whole, "patient_id", "split")),
            "series_key": len(_crossing(whole, "series_id", "split")),
        },
        "folds": [
            {
                "fold": number,
                "n_films": len(fold),
                "n_groups": int(fold["group_id"].nunique()),
                "n_films_per_class": {label: int(n) for label, n in fold["label"].value_counts().sort_index().items()},
            }
            for number in sorted(folds["fold"].unique().tolist())
            for fold in [folds[folds["fold"] == number]]
        ],
    }


def _require_each_film_once(expected: pd.DataFrame, folds: pd.DataFrame) -> None:
    doubled = folds[folds.duplicated("path")]
    if not doubled.empty:
        row = doubled.iloc[0]
        raise FoldError(f"folds are damaged: {row['path']!r} of group {row['group_id']!r} stands in two rows.")
    strangers = sorted(set(expected["path"]) ^ set(folds["path"]))
    if strangers:
        raise FoldError(f"folds are damaged: {len(strangers)} films differ from the manifest, first {strangers[0]!r}.")


def _crossing(films: pd.DataFrame, key: str, boundary: str) -> list[str]:
    """Return the values of `key` that stand on more than one side of `boundary`; missing ones are no value."""
    sides = films.groupby(key)[boundary].nunique()
    return sides[sides > 1].index.astype(str).tolist()


def _patient_key(known: pd.DataFrame, config: TrainConfig) -> str:
    if known["patient_id"].isna().all():
        return "none: no file name holds a patient id, so every film is its own group and leakage is not excluded"
    return f"file name, first group of {config.patient_pattern!r}"


def read_folds(run: RunFolder, config: TrainConfig) -> pd.DataFrame:
    """Return the run's folds after certifying them anew.

    Raises:
        FoldError: the tables leak, are damaged, or no longer say what the stored certificate says.
    """
    folds = store.read_table(run.folds)
    certificate = certify(store.read_table(run.manifest), folds, config)
    stored = store.read_json(run.certificate)
    changed = sorted(key for key in certificate.keys() | stored.keys() if certificate.get(key) != stored.get(key))
    if changed:
        raise FoldError(f"folds of run {run.run_id} were changed after they were certified ({', '.join(changed)}).")
    return folds
