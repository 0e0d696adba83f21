"""The two stories without an orchestrator, cross-validate a data set and score an inbox; and appraise a table.

The Prefect flows train-cv and score-batch take the same steps, each as a task; train-cv also checks the tables with
Great Expectations. Each function imports what it needs when it is called: what trains takes seconds to import, and a
night without new images needs no torch.
"""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from cxr.config import Execution, ScoreConfig, TrainConfig
from cxr.errors import ConfigError, CxrError
from cxr.prediction_columns import PredictionColumns
from cxr.storage import events, files
from cxr.storage.appraisal_folder import AppraisalFolder
from cxr.storage.run_folder import RunFolder
from cxr.storage.scores_folder import ScoresFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cxr.images.inbox import Arrival
    from cxr.serving.scoring.outcome import Check, Outcome
    from cxr.serving.scoring.scoring_runs import ScoringRun
    from cxr.training.run import Run

log = logging.getLogger(__name__)


def cross_validate(config: TrainConfig, execution: Execution) -> RunFolder:
    """Cross-validate a ResNet-50 on a folder of chest X-rays, or resume a run; return the run's folder.

    Args:
        config: what is computed.
        execution: where it is computed and kept; its runner has to be local.

    Raises:
        CxrError: a mistake of the user's, in one sentence.
        FoldFailedError: processes of folds ended badly; the finished folds are kept, and another call goes on.
    """
    from cxr.dataset.examination import examine
    from cxr.evaluation.tables import evaluate
    from cxr.report.run.report import write_report
    from cxr.training import features
    from cxr.training.beginning import begin_run, require_startable
    from cxr.training.scheduling import train_folds

    if execution.runner != "local":
        raise ConfigError(f"--runner {execution.runner} needs Prefect: type `cxr train`, not `python -m cxr train`.")
    folder = RunFolder.named(execution.experiments, execution.run_id or config.default_run_id)
    with files.locked(folder.lock, f"run {folder.run_id}"), events.stage(folder.events, "run"):
        start = require_startable(config, folder, execution)
        examine(config, folder, cache=execution.cache, size=config.size)
        run = begin_run(config, folder, execution, start)
        features.extract(run, run.devices[0])
        with ThreadPoolExecutor(len(run.devices)) as pool:
            train_folds(run, lambda fold, device: pool.submit(_train_patiently, run, fold, device), Future.exception)
        evaluate(run)
        write_report(run)
    return folder


def appraise_predictions(file: Path, columns: PredictionColumns, folder: AppraisalFolder, cache: Path) -> None:
    """Write the tables and the report of predictions that another program made.

    Args:
        file: table of predictions.
        columns: which of its columns mean what.
        folder: of the appraisal.
        cache: keeps the key that patient ids are hashed with.

    Raises:
        CxrError: a mistake of the user's, in one sentence; nothing is written.
    """
    from cxr.dataset.predictions import read_predictions
    from cxr.evaluation.on_request.appraisal import appraise, being_made
    from cxr.images.dicom.patient import patient_key
    from cxr.report.appraisal_report import write_appraisal_report

    predictions = read_predictions(file, columns, lambda: patient_key(cache))
    images, tables = appraise(predictions)
    with being_made(folder, predictions, tables) as made:
        write_appraisal_report(made, images, tables)


def score_inbox(inbox: Path, config: ScoreConfig, check: "Check") -> "tuple[ScoringRun, list[Outcome]]":
    """Score the new images of an inbox with the champion; publish or hold each batch; write record and report.

    Args:
        inbox: folder of batches, one folder each, or its URL in an object store; read, never changed.
        config: which model scores, how, and where the scores go.
        check: judges a batch's scores.

    Returns:
        The scoring run, and the outcome of each batch that had new images.

    Raises:
        CxrError: as for `open_scoring_run`, another process writes to these scores, or DICOM results are asked for and
            could not be written.
    """
    from cxr.dicom_results.results import require_possible
    from cxr.report.scoring_report import write_scoring_report
    from cxr.serving.scoring import scores
    from cxr.serving.scoring.outcome import carry_out, conclude, recorded
    from cxr.serving.scoring.scoring_runs import chunks, open_scoring_run

    require_possible(inbox, config)
    with scores.exclusive(ScoresFolder.at(config.out)):
        scoring_run, batches = open_scoring_run(inbox, config)
        outcomes: list[Outcome] = []
        with recorded(scoring_run, outcomes):
            for batch in batches:
                for chunk in chunks(batch):
                    _score_chunk(scoring_run, batch.name, chunk)
                outcomes.append(conclude(scoring_run, batch, check))
                carry_out(scoring_run, outcomes)
            write_scoring_report(scoring_run, outcomes)
    return scoring_run, outcomes


def write_dicom_results(scoring_run: "ScoringRun") -> None:
    """Write the DICOM results that are missing after a scoring run, and send them, where its config asks for that.

    Raises:
        CxrError: as for `cxr.dicom_results.results.write_and_send`; the scores are published all the same.
    """
    from cxr.dicom_results.results import write_and_send

    write_and_send(scoring_run)


def _score_chunk(scoring_run: "ScoringRun", batch: str, chunk: "Sequence[Arrival]") -> None:
    from cxr.serving.scoring.scorer import score_chunk

    score_chunk(scoring_run, batch, chunk)


def _train_patiently(run: "Run", fold: int, device: str) -> None:
    """Train a fold; if its process ends badly, start it again after each of the delays."""
    from cxr.training.scheduling import RETRY_DELAYS_S, train_fold

    for delay_s in RETRY_DELAYS_S:
        try:
            train_fold(run, fold, device, log)
        except CxrError:
            raise
        except Exception as error:
            log.warning("%s; it starts again in %d s", error, delay_s)
            time.sleep(delay_s)
        else:
            return
    train_fold(run, fold, device, log)
