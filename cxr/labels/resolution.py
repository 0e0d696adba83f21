"""From the tables of labels to what is known of each image, before a pixel is read.

`resolve` reads the tables, joins them, finds the file that each row means, leaves out what the options exclude, and
gives every image one row: its findings as present, absent or unknown, its patient, split, view, weight and subgroups.
`with_classes` turns findings into one class for each image. An image without a row is never given a label.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from cxr.errors import DataError, FoldError
from cxr.images.source import Source
from cxr.labelling import Labelling
from cxr.labels.combining import combine_findings
from cxr.labels.facts import PatientKey, facts_of_images
from cxr.labels.matching import Match, match_files
from cxr.labels.meanings import findings_of, single_labels
from cxr.labels.patients import PATIENT
from cxr.labels.rows import FILE, find_rows, of_views, without_excluded
from cxr.labels.tables import Table, read_tables

log = logging.getLogger(__name__)

WITHOUT_LABEL = "image without a label"
EXCLUDED = "image that --exclude leaves out"
OTHER_VIEW = "image of another view"
UNKNOWN_LABEL = "image of which the label is unknown"
TABLE = "table of labels"


@dataclass(frozen=True)
class Resolved:
    """What the tables say of each image."""

    images: pd.DataFrame
    """By path in the data: patient_id (keyed hash), split, view, weight, and subgroup_<column>; missing where unknown.

    `with_classes` adds `label`.
    """
    findings: pd.DataFrame
    """By path in the data, as `images`: a nullable boolean for each finding, missing where it is unknown."""
    aside: dict[str, str]
    """Images of the data that are not used, with the reason."""
    tables: list[dict[str, Any]]
    """Name, sha256 and n_rows of each table."""

    @property
    def sha256(self) -> str:
        """Of the tables' bytes and of the resolved rows, in hexadecimal."""
        digest = hashlib.sha256(json.dumps([table["sha256"] for table in self.tables]).encode())
        images = self.images.sort_index()
        patient = pd.factorize(images["patient_id"])[0]  # hashes depend on this machine's key
        numbered = images.assign(patient_id=patient)
        for frame in (numbered, self.findings.sort_index()):
            digest.update(frame.to_csv(lineterminator="\n").encode())
        return digest.hexdigest()

    def only(self, is_kept: pd.Series, reason: str) -> "Resolved":
        """Return this with the images that are kept; the others are put aside."""
        left_out = dict.fromkeys(self.images.index[~is_kept], reason)
        return replace(self, images=self.images[is_kept], findings=self.findings[is_kept], aside=self.aside | left_out)


def resolve(
    labelling: Labelling,
    source: Source,
    files: Sequence[str],
    key: PatientKey,
    *,
    finding: str | None = None,
    match: Match = match_files,
) -> Resolved:
    """Return what the tables say of the images.

    Args:
        labelling: which tables, and what their columns mean.
        source: the data, in which tables and lists may lie too.
        files: paths of the images in it.
        key: returns the key of the patients' hashes; called only if a column holds patients.
        finding: the only finding that is wanted; None for all.
        match: which file a value of the path column names.

    Raises:
        ConfigError: an option names what is not there, or leaves open what has to be said.
        DataError: a table is damaged, or contradicts itself or the data.
    """
    tables = read_tables(labelling.labels, source, labelling.header)
    if labelling.patient_column is None and any(PATIENT in table.rows for table in tables):
        labelling = replace(labelling, patient_column=PATIENT)
        log.info("labels: patients are those of the column %r", PATIENT)
    aside = dict.fromkeys(files, WITHOUT_LABEL) | {table.key: TABLE for table in tables if table.key}
    rows = find_rows(tables, labelling, source, files, finding, match)
    rows, excluded = without_excluded(rows, labelling)
    rows, other_views = of_views(rows, labelling, source)
    if rows.empty:
        raise DataError("no row of the tables is left: --exclude and --view-positions leave out all images.")
    findings = combine_findings(findings_of(rows, labelling, finding), rows[FILE], labelling.rows)
    images = facts_of_images(rows, labelling, source, files, key).reindex(findings.index)
    aside |= dict.fromkeys(excluded, EXCLUDED) | dict.fromkeys(other_views, OTHER_VIEW)
    aside = {file: reason for file, reason in aside.items() if file not in findings.index}
    _log_without_label(files, aside)
    return Resolved(images, findings, aside, [_describe(table) for table in tables])


def with_classes(resolved: Resolved, labelling: Labelling, positive: str | None) -> Resolved:
    """Return the images that have one class, with it as the column `label`.

    Args:
        resolved: what the tables say.
        labelling: as `resolve` got it.
        positive: the finding that is positive, against the rest; None if each image has exactly one.

    Raises:
        ConfigError: there is no such finding.
        DataError: an image has several findings, or none.
    """
    is_class = not labelling.label_columns and labelling.separator is None
    label = single_labels(resolved.findings, positive, is_class=is_class)
    labelled = replace(resolved, images=resolved.images.assign(label=label))
    return labelled.only(label.notna(), UNKNOWN_LABEL)


def wanted_finding(labelling: Labelling, positive: str | None) -> str | None:
    """Return the only finding that single classes need; None if they need all."""
    is_class = not labelling.label_columns and labelling.separator is None
    return None if is_class else positive


def require_patients(resolved: Resolved, n_folds: int) -> None:
    """Raise FoldError if a class has fewer patients than there are folds; an image without one counts as a patient."""
    images = resolved.images
    patient = images["patient_id"].where(images["patient_id"].notna(), images.index)
    n_patients = patient.groupby(images["label"]).nunique().sort_values()
    if len(n_patients) and n_patients.iloc[0] < n_folds:
        raise FoldError(
            f"{n_patients.index[0]!r} has images of {n_patients.iloc[0]} patients, fewer than {n_folds} folds: give "
            "fewer --folds, or images of more patients."
        )


def _log_without_label(files: Sequence[str], aside: dict[str, str]) -> None:
    """Say how many images have no row, and in which folder if they are all in one."""
    without = [file for file, reason in aside.items() if reason == WITHOUT_LABEL]
    if not without:
        return
    folders = {file.rpartition("/")[0] for file in without}
    names = {folder.rpartition("/")[2] for folder in folders}
    where = f", all in {next(iter(names)) + '/'!r}" if len(names) == 1 and "" not in names else ""
    log.warning("labels: of %d images %d have no row%s: they are not used", len(files), len(without), where)


def _describe(table: Table) -> dict[str, Any]:
    return {"name": table.name, "sha256": table.sha256, "n_rows": len(table.rows)}
