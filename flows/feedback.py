"""Feedback: labels that came after the scores are entered, checked, and say if the champion keeps its promise."""

from pathlib import Path

from prefect import State, flow
from prefect.states import Completed, Failed

from cxr.labelling import LabelTables
from cxr.storage.model_folder import ModelFolder
from cxr.storage.scores_folder import ScoresFolder
from data_checks.tolerances import Tolerances
from flows.run_names import scoring_run_name
from tasks.feedback import check_feedback, enter_labels, verdict_on_champion
from tasks.retraining import require_deployment, start_retraining

SURELY_BELOW = "SurelyBelow"
"""The state in which a run ends that finds the champion below its promise."""


@flow(name="feedback", flow_run_name=scoring_run_name)
def feedback(
    name: str,
    labels: list[str],
    describe: str | None = None,
    by: str = "the deployment feedback/default",
    out: Path = Path("scores"),
    models: Path = Path("models"),
    cache: Path = Path("cache"),
    retrain: bool = False,
    tolerances: Path | dict[str, float] | None = None,
) -> State:
    """Enter labels of scored images; the run ends in state SurelyBelow if the champion is surely below its promise.

    Args:
        name: Name of the model.
        labels: Tables of labels, as `cxr feedback` takes them.
        describe: Description of the tables: a TOML file, or a known set that `cxr sets` lists.
        by: Who gives the labels.
        out: Folder of the scores.
        models: Folder that holds all models.
        cache: Folder of the key that patient ids are hashed with.
        retrain: Start `retrain/default` if the champion is surely below its promise, once for the same labels.
        tolerances: TOML file with limits that differ from the defaults, or these limits themselves.
    """
    limit = Tolerances.of(tolerances)
    tables = LabelTables(labels=tuple(labels), describe=describe)
    scores, model = ScoresFolder.at(out), ModelFolder.named(models, name)
    if retrain:
        require_deployment()
    entered = enter_labels(scores, model, tables, by, cache)
    check_feedback(scores, model, limit, wait_for=[entered])
    message = f"{entered.n_new:,} new labels, {entered.n_corrected:,} corrections"
    verdict = verdict_on_champion(scores, model)
    if verdict is None:
        return Completed(message=message)
    message = f"{message}; version {verdict['model_version']}: {verdict['verdict']}"
    if verdict["verdict"] == "surely below":
        if retrain:
            start_retraining(scores, model, verdict["model_version"], cache)
        return Failed(name=SURELY_BELOW, message=message)
    return Completed(message=message)
