"""The tables of a run that the page shows: read or computed once, and again when the run's predictions change."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from cxr.classes import Classes, Findings, outputs_of_record
from cxr.evaluation import analyses
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.on_request.comparison import Comparison, compare
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.subgroups import most_confident_errors, subgroup_table, with_subgroups
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder

KEPT = 4
"""Runs whose tables stay in memory."""
HASHES: dict[str | type[Any], Callable[[Any], Any]] = {RunFolder: lambda folder: str(folder.path)}
"""How Streamlit tells runs apart: it cannot look into a path in an object store."""


def _errors(images: OutOfFold) -> pd.DataFrame:
    """Return every wrong prediction, the most confident first, with the columns of `most_confident_errors`."""
    ranked = most_confident_errors(images, len(images.predictions))
    return ranked.sort_values(["probability", "path"], ascending=[False, True], ignore_index=True)


COMPUTE: dict[str, Callable[[OutOfFold], Any]] = {
    "curves": analyses.curve_tables,
    "reliability": analyses.reliability_table,
    "operating_points": analyses.operating_point_table,
    "scores": analyses.score_table,
    "calibration": analyses.calibration_table,
    "errors": _errors,
}


def findings(folder: RunFolder) -> list[str]:
    """Return the findings of a run; none of a run of classes."""
    outputs = _outputs(folder)
    return list(outputs) if isinstance(outputs, Findings) else []


def out_of_fold(folder: RunFolder, finding: str | None = None) -> OutOfFold:
    """Return a run's out-of-fold predictions, or those of one of its findings.

    Args:
        folder: of the run, with its tables.
        finding: one of several findings; None for a run of classes.
    """
    return _read(folder, _version(folder), finding)


def table(name: str, folder: RunFolder, finding: str | None = None) -> Any:
    """Return what the core computes from a run's out-of-fold predictions.

    Args:
        name: a key of COMPUTE, or subgroups.
        folder: of the run, with its tables.
        finding: one of several findings; None for a run of classes.
    """
    return _compute(name, folder, _version(folder), finding)


def comparison(folders: list[RunFolder]) -> Comparison:
    """Return runs compared with the first of them.

    Raises:
        CxrError: they cannot be compared.
    """
    return _compare(folders, [_version(folder) for folder in folders])


def have_common_images(first: RunFolder, second: RunFolder) -> bool:
    """Return whether two runs predict an image in common, and give all that they have in common the same labels."""
    labels, others = (_labels(folder, _version(folder)) for folder in (first, second))
    common = labels.index.intersection(others.index)
    return len(common) > 0 and labels[common].equals(others[common])


def _outputs(folder: RunFolder) -> Classes | Findings:
    return outputs_of_record(verified.read_record(folder.config))


def _version(folder: RunFolder) -> str:
    """Return the hash of the predictions, which everything here is computed from."""
    return verified.sha256_of(folder.predictions)


@st.cache_data(max_entries=64, show_spinner="Reading the runs …", hash_funcs=HASHES)
def _labels(folder: RunFolder, version: str) -> pd.Series:
    """Return the label of each image, by image_id."""
    return verified.read_table(folder.predictions).set_index("image_id")["label"]


@st.cache_resource(max_entries=KEPT, show_spinner="Reading the run …", hash_funcs=HASHES)
def _read(folder: RunFolder, version: str, finding: str | None) -> OutOfFold:
    predictions = verified.read_table(folder.predictions)
    outputs = _outputs(folder)
    if isinstance(outputs, Findings):
        return FindingsOutOfFold(predictions, outputs).of(finding or outputs[0])
    return OutOfFold(predictions, outputs)


@st.cache_data(max_entries=8 * KEPT, show_spinner="Computing …", hash_funcs=HASHES)
def _compute(name: str, folder: RunFolder, version: str, finding: str | None) -> Any:
    images = _read(folder, version, finding)
    if name == "subgroups":
        return subgroup_table(images, with_subgroups(folder, verified.read_table(folder.manifest)))
    return COMPUTE[name](images)


@st.cache_resource(max_entries=KEPT, show_spinner="Comparing …", hash_funcs=HASHES)
def _compare(folders: list[RunFolder], versions: list[str]) -> Comparison:
    return compare(folders)
