"""What a run's tables say, of predictions that another program made.

Everything is computed as for a run. Without folds there is no mean over folds; calibration and thresholds are fitted
and judged on parts of the patients, drawn at random, as a run fits and judges them on folds.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd

from cxr.classes import Classes, Findings, outputs_of
from cxr.dataset.predictions import Predictions
from cxr.errors import RunError
from cxr.evaluation.findings import FindingsOutOfFold, out_of_fold_of
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.tables import tables_of_predictions
from cxr.storage import files, verified
from cxr.storage.appraisal_folder import AppraisalFolder

log = logging.getLogger(__name__)

IDENTITY = ("source", "labels", "columns", "findings", "outputs", "value", "classes")
"""What makes an appraisal the same one: which files and columns were read, and how."""


def appraise(predictions: Predictions) -> tuple[OutOfFold | FindingsOutOfFold, dict[str, pd.DataFrame]]:
    """Return the predictions as arrays, and the tables that are computed from them, by name."""
    images = out_of_fold_of(predictions.table, predictions.outputs)
    return images, tables_of_predictions(images, images.predictions)


@contextmanager
def being_made(
    folder: AppraisalFolder, predictions: Predictions, tables: Mapping[str, pd.DataFrame]
) -> Iterator[AppraisalFolder]:
    """Yield a hidden folder with the predictions, tables and record, which takes the appraisal's place at the end.

    Raises:
        RunError: the appraisal is one of another file, or of other columns.
    """
    with files.locked(folder.lock, f"appraisal {folder.name!r}"):
        _require_same(folder, predictions.facts)
        with files.replacing_folder(folder.path) as path:
            made = AppraisalFolder(path)
            number = files.FINDINGS_FORMAT if isinstance(predictions.outputs, Findings) else files.FORMAT
            record = {"format": number, "name": folder.name, "made_at": files.now()} | predictions.facts
            verified.write_json(made.record, record)
            verified.write_table(made.predictions, predictions.table)
            for name, table in tables.items():
                verified.write_table(made.table(name), table)
            yield made
    log.info("appraisal: %s", folder.path)


def _require_same(folder: AppraisalFolder, facts: Mapping[str, Any]) -> None:
    if not folder.path.exists():
        return
    before = verified.read_record(folder.record)
    differing = [name for name in IDENTITY if before.get(name) != facts[name]]
    if differing:
        raise RunError(
            f"the appraisal {folder.name!r} is of {before['source']['name']!r} and differs in its {differing[0]}: give "
            "another --name, or delete its folder."
        )


def outputs_of_appraisal(record: Mapping[str, Any]) -> Classes | Findings:
    """Return the classes or the findings of an appraisal, in output order; records of before hold classes alone."""
    return outputs_of(record["classes"], several=record.get("findings") is not None)
