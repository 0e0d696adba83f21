"""Score-batch: the nightly job, from an inbox of image folders to published scores."""

from pathlib import Path

from prefect import State, flow
from prefect.states import Completed, Failed

from cxr.config import Compile, ScoreConfig, ScorePrecision, ScoreRunner
from cxr.serving.outcome import note, totals
from cxr.storage.files import locked
from cxr.storage.scores_folder import ScoresFolder
from data_checks.tolerances import Tolerances
from flows.parameters import described_by
from tasks.serving import chunk_runner, conclude_batch, open_scoring_run, report_scoring_run


@flow(name="score-batch")
@described_by(ScoreConfig)
def score_batch(
    inbox: Path,
    name: str,
    out: Path = Path("scores"),
    models: Path = Path("models"),
    cache: Path = Path("cache"),
    settle: float = 60.0,
    force: bool = False,
    device: str = "auto",
    precision: ScorePrecision = "auto",
    compile: Compile = "auto",
    workers: int | None = None,
    runner: ScoreRunner = "local",
    ray_address: str | None = None,
    gpus_per_chunk: float = 1.0,
    tolerances: Path | dict[str, float] | None = None,
) -> State:
    """Score the images of an inbox that the champion has not seen; the run ends in state Held if a batch is held."""
    config = ScoreConfig(
        name=name,
        out=out,
        models=models,
        cache=cache,
        settle=settle,
        force=force,
        device=device,
        precision=precision,
        compile=compile,
        workers=workers,
        runner=runner,
        ray_address=ray_address,
        gpus_per_chunk=gpus_per_chunk,
    )
    limit, folder = Tolerances.of(tolerances), ScoresFolder.at(out)
    with locked(folder.lock, f"scores folder {str(folder.path)!r}"), chunk_runner(config) as score_chunks:
        scoring_run, batches = open_scoring_run(inbox, config)
        outcomes = []
        for batch in batches:
            score_chunks(scoring_run, batch)
            outcomes.append(conclude_batch(scoring_run, batch, limit))
            note(scoring_run, outcomes)
        report_scoring_run(scoring_run, outcomes)
    held = [outcome.batch for outcome in outcomes if outcome.decision == "held"]
    counts = ", ".join(f"{n:,} {what}" for what, n in totals(outcomes).items())
    if held:
        return Failed(
            name="Held", message=f"{counts}; held: {held}: look at {folder.scoring_run(scoring_run.started_at).report}"
        )
    return Completed(message=counts)
