"""Enter labels that came after the scores, check them, and ask what they say of the champion."""

from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from cxr.feedback import feedback, summary
from cxr.feedback.feedback import Entered
from cxr.labelling import LabelTables
from cxr.serving.registry import champion_version, load_champion
from cxr.storage.model_folder import ModelFolder
from cxr.storage.scores_folder import ScoresFolder
from data_checks import gate
from data_checks.tolerances import Tolerances
from data_checks.verdicts import require
from tasks.logs import core_logs


@task(task_run_name="enter-labels", cache_policy=NO_CACHE)
def enter_labels(scores: ScoresFolder, model: ModelFolder, tables: LabelTables, by: str, cache: Path) -> Entered:
    """Join the labels to the scores, keep them, and judge each version of the model anew."""
    with core_logs():
        champion = load_champion(model.path.parent, model.name)
        return feedback.give_feedback(scores, model, champion, tables, by=by, cache=cache)


@task(task_run_name="check-feedback", cache_policy=NO_CACHE)
def check_feedback(scores: ScoresFolder, model: ModelFolder, limit: Tolerances) -> None:
    """Check every label that was ever entered; raise ChecksFailedError if a critical expectation failed."""
    with core_logs():
        champion = load_champion(model.path.parent, model.name)
        verdicts = gate.check_feedback(scores, model.name, champion.classes, limit)
    require(verdicts, scores.feedback(model.name).path)


def verdict_on_champion(scores: ScoresFolder, model: ModelFolder) -> dict[str, Any] | None:
    """Return the verdict on the champion; None if no label of its images has come."""
    version = champion_version(model)
    return None if version is None else summary.verdict_of(scores.feedback(model.name), version)
