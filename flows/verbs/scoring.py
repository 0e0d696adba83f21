"""The verb that scores an inbox: score."""

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cxr.application import quick_imports
from cxr.cli import groups
from cxr.cli.app import Json, app
from cxr.config import ScoreConfig
from cxr.verdict import Verdict
from data_checks.tolerances import Tolerances
from flows.prefect_session import prefect_session


@app.command(group=groups.SCORING)
def score(
    inbox: Path,
    /,
    *,
    config: Annotated[ScoreConfig, Parameter(name="*")],
    tolerances: Annotated[Path | None, Parameter(help="TOML file with limits that differ from the defaults.")] = None,
    json: Json = False,
) -> None:
    """Score the images of an inbox that the champion has not seen, batch by batch; hold batches that look wrong.

    It takes the steps of the deployment score-batch/nightly in this process, without a Prefect server; with --runner
    ray it is that Prefect flow. Exit code 0 if all scores are published, 1 if a batch is held, 2 if nothing could be
    scored, or DICOM results could not be written or sent.

    Example: cxr score inbox --name pneumonia

    Args:
        inbox: Folder of batches, one folder each, or its URL, s3://bucket/inbox; read, never changed.
    """
    from cxr.cli import documents, model_results, terminal
    from cxr.pipeline import score_inbox, write_dicom_results
    from cxr.serving.scoring.outcome import totals
    from cxr.storage.scores_folder import ScoresFolder

    limit = Tolerances.of(tolerances)
    folder = ScoresFolder.at(config.out)
    if config.runner == "ray":
        is_held = _score_as_flow(inbox, config, limit)
        (documents if json else model_results).show_scoring_run(folder.scoring_runs()[0])
        sys.exit(1 if is_held else 0)
    with terminal.log_lines():
        scoring_run, outcomes = score_inbox(inbox, config, partial(_check_scores, limit=limit))
    (documents if json else model_results).show_scoring_run(scoring_run.folder)
    with terminal.log_lines():
        write_dicom_results(scoring_run)
    sys.exit(1 if totals(outcomes)["held"] else 0)


def _check_scores(*batch: Any, limit: Tolerances) -> list[Verdict]:
    """Check a batch; a scoring run without new images does without the import."""
    from data_checks.gate import check_scores

    return check_scores(*batch, limit=limit)


def _score_as_flow(inbox: Path, config: ScoreConfig, limit: Tolerances) -> bool:
    """Run the flow score-batch; return whether a batch is held."""
    with prefect_session():
        with quick_imports(to_stay=True):
            from flows.score_batch import score_batch

        state = score_batch(inbox, **asdict(config), tolerances=asdict(limit), return_state=True)
        if not state.is_completed() and state.name != "Held":
            state.result()
    return state.name == "Held"
