"""Score-batch: the nightly job, from an inbox of image folders to published scores."""

from pathlib import Path

from prefect import State, flow
from prefect.runtime import deployment
from prefect.states import Completed, Failed

from cxr.config import ScoreConfig
from cxr.dicom_results.results import require_possible
from cxr.serving.registry import champion_version, model_folders
from cxr.serving.scoring import scores
from cxr.serving.scoring.outcome import Outcome, carry_out, recorded, totals
from cxr.storage.model_folder import ModelFolder
from cxr.storage.scores_folder import ScoresFolder
from data_checks.tolerances import Tolerances
from flows.parameters import flat_parameters
from flows.run_names import scoring_run_name
from tasks.serving import batch_scorer, conclude_batch, open_scoring_run, report_scoring_run, write_dicom_results


def _is_without_champion(model: ModelFolder) -> bool:
    """Return whether a model has no champion yet, and is not a misspelt one beside others."""
    others = [folder for folder in model_folders(model.path.parent) if folder.versions()]
    return champion_version(model) is None and (not others or bool(model.versions()))


@flow(name="score-batch", flow_run_name=scoring_run_name)
@flat_parameters
def score_batch(inbox: Path, config: ScoreConfig, tolerances: Path | dict[str, float] | None = None) -> State:
    """Score the images of an inbox that the champion has not seen; the run ends in state Held if a batch is held.

    A deployment's run ends well, and scores nothing, before the first champion: the schedule is there from the first
    day on. If there are other models and none of this name, it fails, because a name may be misspelt.

    Args:
        inbox: Folder of batches, one folder each, or its URL, s3://bucket/inbox; read, never changed.
        tolerances: TOML file with limits that differ from the defaults, or these limits themselves.
    """
    limit = Tolerances.of(tolerances)
    if deployment.id and _is_without_champion(ModelFolder.named(config.models, config.name)):
        return Completed(message=f"no champion yet: `cxr package RUN --name {config.name} --promote` makes one")
    require_possible(inbox, config)
    folder = ScoresFolder.at(config.out)
    with scores.exclusive(folder), batch_scorer(config) as score_new:
        scoring_run, batches = open_scoring_run(inbox, config)
        outcomes: list[Outcome] = []
        with recorded(scoring_run, outcomes):
            for batch in batches:
                score_new(scoring_run, batch)
                outcomes.append(conclude_batch(scoring_run, batch, limit))
                carry_out(scoring_run, outcomes)
            report_scoring_run(scoring_run, outcomes)
    if config.dicom_out is not None:
        write_dicom_results(scoring_run)
    held = [outcome.batch for outcome in outcomes if outcome.decision == "held"]
    counts = ", ".join(f"{n:,} {what}" for what, n in totals(outcomes).items())
    if held:
        report = folder.scoring_run(scoring_run.started_at).report
        return Failed(name="Held", message=f"{counts}; held: {held}: look at {report}")
    return Completed(message=counts)
