"""The verb for predictions that another program made: appraise."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cxr.cli import groups
from cxr.cli.app import Json, app
from cxr.prediction_columns import PredictionColumns

Appraisals = Annotated[Path, Parameter(help="Folder that holds all appraisals.")]


@app.command(group=groups.FINISHED_RUNS)
def appraise(
    file: Path,
    /,
    *,
    columns: Annotated[PredictionColumns, Parameter(name="*")] = PredictionColumns(),  # noqa: B008 it is frozen
    name: str | None = None,
    appraisals: Appraisals = Path("appraisals"),
    cache: Annotated[Path, Parameter(help="Folder of the key that patient ids are hashed with.")] = Path("cache"),
    json: Json = False,
) -> None:
    """Appraise predictions that another program made: tables, intervals over patients, and the report of a run.

    No image is read and no model is run. The table has one row per image, with its label and a probability or a logit
    per class, or the probability of one of two classes; or, of several findings per image, with a label and a
    probability or a logit for each finding (--label-columns).

    Example: cxr appraise predictions.csv --positive PNEUMONIA --patient-column patient

    Args:
        file: Table of predictions: csv, tsv, txt, jsonl, parquet or xlsx, also .gz.
        name: Name of the appraisal; by default that of the file.
    """
    from cxr.cli import documents, run_results, terminal
    from cxr.pipeline import appraise_predictions
    from cxr.storage.appraisal_folder import AppraisalFolder, default_name

    folder = AppraisalFolder.named(appraisals, name or default_name(file))
    with terminal.log_lines():
        appraise_predictions(file, columns, folder, cache)
    (documents if json else run_results).show_appraisal(folder)
