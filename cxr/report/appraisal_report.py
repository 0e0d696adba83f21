"""The report of an appraisal: what a run's report says of predictions, and what cannot be said of them here."""

import itertools
from pathlib import Path

from cxr import __version__
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.classification import COUNTS
from cxr.report.cells import Cells
from cxr.report.markup import render
from cxr.report.results import Tables, figures_of, headline_point, undefined
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
    ("referral", "Refer"),
    ("folds", "Folds"),
    ("subgroups", "Subgroups"),
    ("most-confident-errors", "Most confident errors"),
    ("label-suspects", "Label suspects"),
    ("missing", "What is missing"),
    ("provenance", "Provenance"),
    ("limits", "Limits"),
)


def write_appraisal_report(folder: AppraisalFolder, images: OutOfFold, tables: Tables) -> Path:
    """Write the report of an appraisal and its figures; return the report.

    Args:
        folder: with the appraisal's record.
        images: the predictions.
        tables: as `cxr.evaluation.on_request.appraisal.appraise` returns them.
    """
    drawn = figures_of(images, tables)
    for name, figure in drawn.items():
        verified.write_text(folder.figures / f"{name}.svg", figure.svg)
        verified.write_table(folder.figures / f"{name}.parquet", figure.table)
    record = verified.read_record(folder.record)
    named = {name: (folder.table(name).relative_to(folder.path).as_posix(), table) for name, table in tables.items()}
    cells = Cells(named, {folder.record.name: record})
    page = render(
        Path(__file__).with_name("appraisal.html.j2"),
        cells=cells,
        record=record,
        classes=images.classes,
        positive=images.classes.headline,
        has_folds=images.has_folds,
        unit=unit_of(record["n_patients"]),
        part="fold" if images.has_folds else "part",
        subject="this table",
        model="this model",
        headline_point=headline_point(drawn),
        has_package=False,
        count=itertools.count(1).__next__,
        sections=[section for section in SECTIONS if section[0] != "folds" or images.has_folds],
        figures=drawn,
        undefined=undefined(tables),
        suspects=cells.rows("label_suspects", is_suspect=True),
        counts=COUNTS,
        made_at=files.now(),
        version=__version__,
        display_name=display_name,
        disclaimer=DISCLAIMER,
    )
    verified.write_text(folder.report, page)
    return folder.report


def unit_of(n_patients: int | None) -> str:
    """Return what the bootstrap draws: patients, or images where no patient is known."""
    return "patients" if n_patients else "images"
