"""The two stories without an orchestrator: cross-validate a data set, score an inbox.

The Prefect flows train-cv and score-batch take the same steps, each as a task; train-cv also judges the tables with
Great Expectations.
"""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cxr.config import Execution, ScoreConfig, TrainConfig
from cxr.dataset.examination import examine
from cxr.errors import ConfigError, CxrError
from cxr.evaluation.tables import evaluate
from cxr.report.run_report import write_report
from cxr.report.scoring_report import write_scoring_report
from cxr.serving.outcome import Check, Outcome, conclude, note
from cxr.serving.scorer import score_chunk
from cxr.serving.scoring_runs import ScoringRun, chunks, open_scoring_run
from cxr.storage import events, files
from cxr.storage.run_folder import RunFolder
from cxr.storage.scores_folder import ScoresFolder
from cxr.training import features
from cxr.training.run import Run, begin_run, require_startable
from cxr.training.scheduling import RETRY_DELAYS_S, train_fold, train_folds

log = logging.getLogger(__name__)


def cross_validate(config: TrainConfig, execution: Execution) -> RunFolder:
    """Cross-validate a ResNet-50 on a folder of chest X-rays, or take a run up again; return the run's folder.

    Raises:
        CxrError: a mistake of the user's.
        FoldFailedError: folds failed although nothing that was typed is wrong; the others are kept.
    """
    if execution.runner != "local":
        raise ConfigError(f"--runner {execution.runner} needs Prefect: type `cxr train`, not `python -m cxr train`.")
    folder = RunFolder.named(execution.experiments, execution.run_id or config.default_run_id)
    where = {
        "devices": execution.devices,
        "folds_per_device": execution.folds_per_device,
        "redo_fold": execution.redo_fold,
    }
    with files.locked(folder.lock, f"run {folder.run_id}"), events.stage(folder.events, "run"):
        require_startable(config, folder, **where)
        examine(config, folder, cache=execution.cache, size=config.size)
        run = begin_run(config, folder, cache=execution.cache, compile=execution.compile, **where)
        features.extract(run, run.devices[0])
        with ThreadPoolExecutor(len(run.devices)) as pool:
            train_folds(run, lambda fold, device: pool.submit(_train_patiently, run, fold, device), Future.exception)
        evaluate(run)
        write_report(run)
    return folder


def score_inbox(inbox: Path, config: ScoreConfig, check: Check) -> tuple[ScoringRun, list[Outcome]]:
    """Score what is new in an inbox with the champion; publish or hold each batch; write the record and the report.

    Args:
        inbox: folder of batches, one folder each; read, never changed.
        check: judges a batch's scores.

    Raises:
        CxrError: as for `open_scoring_run`, or another process writes these scores.
    """
    folder = ScoresFolder.at(config.out)
    with files.locked(folder.lock, f"scores folder {str(folder.path)!r}"):
        scoring_run, batches = open_scoring_run(inbox, config)
        outcomes: list[Outcome] = []
        for batch in batches:
            for chunk in chunks(batch):
                score_chunk(scoring_run, batch.name, chunk)
            outcomes.append(conclude(scoring_run, batch, check))
            note(scoring_run, outcomes)
        write_scoring_report(scoring_run, outcomes)
    return scoring_run, outcomes


def _train_patiently(run: Run, fold: int, device: str) -> None:
    for delay_s in RETRY_DELAYS_S:
        try:
            train_fold(run, fold, device, log)
        except CxrError:
            raise
        except Exception as error:
            log.warning("%s; it is started again in %d s", error, delay_s)
            time.sleep(delay_s)
        else:
            return
    train_fold(run, fold, device, log)
