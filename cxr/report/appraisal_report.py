"""The report of an appraisal: what a run's report says of predictions, and what cannot be said of them here."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cxr import __version__
from cxr.classes import MACRO
from cxr.evaluation.findings import FindingsOutOfFold, tables_of
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.classification import COUNTS
from cxr.report.cells import Cells
from cxr.report.markup import render
from cxr.report.results import HEADLINE, Tables, figures_of, headline_point, undefined, write_figure
from cxr.storage import files, verified
from cxr.storage.appraisal_folder import AppraisalFolder
from cxr.wording import DISCLAIMER, display_name

SECTIONS = (
    ("summary", "Summary"),
    ("images", "Images"),
    ("metrics", "Metrics before calibration"),
    ("performance", "Performance"),
    ("calibration", "Calibration"),
    ("operating-points", "Operating points"),
    ("referral", "Referral"),
    ("folds", "Folds"),
    ("subgroups", "Subgroups"),
    ("most-confident-errors", "Most confident errors"),
    ("label-suspects", "Label suspects"),
    ("missing", "What is missing"),
    ("provenance", "Provenance"),
    ("limits", "Limits"),
)
OF_ALL_FINDINGS = (
    ("summary", "Findings"),
    ("images", "Images"),
    ("missing", "What is missing"),
    ("provenance", "Provenance"),
    ("limits", "Limits"),
)
"""The sections of the overview of several findings."""


@dataclass(frozen=True)
class _Subject:
    """What a page is about: the classes of a table, or one of its findings."""

    finding: str = ""
    """Empty for classes."""
    prefix: str = ""
    """Of the names of its figures."""
    pages: Mapping[str, str] = field(default_factory=dict)
    """The pages of all findings, by finding."""


def write_appraisal_report(folder: AppraisalFolder, images: OutOfFold | FindingsOutOfFold, tables: Tables) -> Path:
    """Write the report of an appraisal and its figures; return the report.

    With several findings per image there is a page for each, and the report is the overview that leads to them.

    Args:
        folder: with the appraisal's record.
        images: the predictions.
        tables: as `cxr.evaluation.on_request.appraisal.appraise` returns them.
    """
    if isinstance(images, FindingsOutOfFold):
        files_of_pages = {name: folder.report_of(k, name) for k, name in enumerate(images.findings, 1)}
        pages = {name: path.name for name, path in files_of_pages.items()}
        for k, (name, part) in enumerate(images.by_finding.items(), 1):
            subject = _Subject(name, f"finding-{k}-", pages)
            verified.write_text(files_of_pages[name], _page(folder, part, tables_of(tables, name), subject))
        verified.write_text(folder.report, _overview(folder, images, tables, pages))
    else:
        verified.write_text(folder.report, _page(folder, images, tables, _Subject()))
    return folder.report


def _page(folder: AppraisalFolder, images: OutOfFold, tables: Tables, subject: _Subject) -> str:
    """Write the figures of classes or of a finding; return the page about them."""
    drawn = {name: replace(figure, name=subject.prefix + name) for name, figure in figures_of(images, tables).items()}
    for figure in drawn.values():
        write_figure(folder.figures, figure)
    cells = _cells(folder, tables, {"class": subject.finding} if subject.finding else {})
    left_out = {*([] if images.has_folds else ["folds"]), *(["missing"] if subject.finding else [])}
    return render(
        Path(__file__).with_name("appraisal.html.j2"),
        cells=cells,
        finding=subject.finding,
        pages=subject.pages,
        classes=images.classes,
        positive=images.classes.headline,
        model="this model",
        subject="this table",
        headline_point=headline_point(drawn),
        sections=[section for section in SECTIONS if section[0] not in left_out],
        figures=drawn,
        undefined=undefined(tables),
        suspects=cells.rows("label_suspects", is_suspect=True),
        counts=COUNTS,
        **_shared(folder, has_folds=images.has_folds),
    )


def _overview(folder: AppraisalFolder, images: FindingsOutOfFold, tables: Tables, pages: Mapping[str, str]) -> str:
    """Return the page that has each finding in one line and leads to the page about it."""
    return render(
        Path(__file__).with_name("appraisal_findings.html.j2"),
        cells=_cells(folder, tables, {}),
        pages=pages,
        finding="",
        point=HEADLINE,
        macro=MACRO,
        compared={},
        doubtful=[],
        sections=OF_ALL_FINDINGS,
        **_shared(folder, has_folds=images.has_folds),
    )


def _cells(folder: AppraisalFolder, tables: Tables, within: Mapping[str, Any]) -> Cells:
    named = {name: (folder.table(name).relative_to(folder.path).as_posix(), table) for name, table in tables.items()}
    return Cells(named, {folder.record.name: verified.read_record(folder.record)}, within)


def _shared(folder: AppraisalFolder, *, has_folds: bool) -> dict[str, Any]:
    """Return what every page of an appraisal says."""
    record = verified.read_record(folder.record)
    return {
        "record": record,
        "has_folds": has_folds,
        "unit": unit_of(record["n_patients"]),
        "part": "fold" if has_folds else "part",
        "has_package": False,
        "count": itertools.count(1).__next__,
        "made_at": files.now(),
        "version": __version__,
        "display_name": display_name,
        "disclaimer": DISCLAIMER,
    }


def unit_of(n_patients: int | None) -> str:
    """Return what the bootstrap draws: patients, or images where no patient is known."""
    return "patients" if n_patients else "images"
