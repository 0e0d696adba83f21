"""What tables say of an image beside its label: patient, split, view, weight and subgroups."""

from collections.abc import Callable, Sequence

import pandas as pd

from cxr.images.source import Source
from cxr.labelling import Labelling
from cxr.labels.combining import combine_facts
from cxr.labels.covariates import subgroup_levels, weights_of
from cxr.labels.patients import hash_patients
from cxr.labels.rows import FILE, VIEW, first_groups
from cxr.labels.splits import listed_splits, split_name

SUBGROUP = "subgroup_"
"""Begins the name of a column that holds the subgroup of each image."""
PatientKey = Callable[[], bytes]


def facts_of_images(
    rows: pd.DataFrame, labelling: Labelling, source: Source, files: Sequence[str], key: PatientKey
) -> pd.DataFrame:
    """Return patient_id, split, view, weight and subgroups of each image, by its path."""
    columns = {"view": rows[VIEW], "split": _splits(rows, labelling, source, files)}
    for name, column in (("patient", labelling.patient_column), ("weight", labelling.weight_column)):
        columns[name] = rows[column] if column else pd.Series(None, index=rows.index, dtype="str")
    columns |= {SUBGROUP + name: rows[name] for name in labelling.subgroup_column}
    facts = combine_facts(pd.DataFrame(columns), rows[FILE], list(columns))
    if labelling.patient_column:
        facts["patient"] = hash_patients(facts["patient"], key)
    if labelling.weight_column:
        facts["weight"] = weights_of(facts["weight"].rename(labelling.weight_column))
    else:
        facts["weight"] = float("nan")
    for name in labelling.subgroup_column:
        facts[SUBGROUP + name] = subgroup_levels(facts[SUBGROUP + name].rename(name))
    subgroups = [SUBGROUP + name for name in labelling.subgroup_column]
    facts = facts.rename(columns={"patient": "patient_id"})[["patient_id", "split", "view", "weight", *subgroups]]
    return facts.astype(dict.fromkeys(["patient_id", "split", "view", *subgroups], "str"))


def _splits(rows: pd.DataFrame, labelling: Labelling, source: Source, files: Sequence[str]) -> pd.Series:
    """Return the split of each row: of its column, or else of the lists, or of its path."""
    if labelling.split_column:
        return rows[labelling.split_column].map(split_name, na_action="ignore")
    if labelling.split_list:
        allow = labelling.missing_films == "allow"
        return rows[FILE].map(listed_splits(labelling.split_list, source, files, allow=allow))
    if labelling.split_pattern:
        return first_groups(labelling.split_pattern, rows[FILE]).map(split_name, na_action="ignore")
    return pd.Series(None, index=rows.index, dtype="str")
