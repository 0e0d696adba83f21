"""The `cxr` command: the core's verbs, and those that run as Prefect flows or start services."""

import os
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

from cyclopts import Group, Parameter

from cxr.cli import groups
from cxr.cli.app import Experiments, Json, Models
from cxr.cli.main import app  # which has the core's verbs
from cxr.cli.models import package
from cxr.cli.runs import require_possible
from cxr.cli.terminal import say
from cxr.config import DataConfig, Execution, RunLocation, ScoreConfig, TrainConfig
from cxr.errors import ChecksFailedError, ConfigError, RunError
from cxr.verdict import Verdict
from cxr.wording import DISCLAIMER
from data_checks.tolerances import Checking, Tolerances
from flows.prefect_session import prefect_session, require_named_server

groups.OF_CLASS[Checking] = Group("Data checks", sort_key=15)
Services = Annotated[Path, Parameter(help="Folder for the services' process ids and logs.")]


@app.command(group=groups.DATA)
def validate(
    *,
    config: Annotated[DataConfig, Parameter(name="*")],
    location: Annotated[RunLocation, Parameter(name="*")] = RunLocation(),  # noqa: B008 it is frozen
    checks: Annotated[Checking, Parameter(name="*")] = Checking(),  # noqa: B008
    json: Json = False,
) -> None:
    """Check a folder of chest X-rays with Great Expectations, as the Prefect flow validate-dataset.

    Nothing is trained. Exit code 0 if the data are fit to train on, 1 if something critical is wrong with them, 2 if
    they could not be checked.

    Example: cxr validate --data chest_xray.zip
    """
    from cxr.cli import documents, tables
    from cxr.storage.run_folder import RunFolder

    limits = _as_values(checks)
    require_possible(config, location)
    with prefect_session():
        from flows.validate_dataset import validate_dataset

        folder = RunFolder.named(location.experiments, location.run_id or config.default_run_id)
        try:
            validate_dataset(**asdict(config), **asdict(location), **asdict(limits))
        except ChecksFailedError:
            (documents if json else tables).show_checks(folder)
            sys.exit(1)
    (documents if json else tables).show_checks(folder)


@app.command(group=groups.TRAINING)
def train(
    *,
    config: Annotated[TrainConfig, Parameter(name="*")],
    execution: Annotated[Execution, Parameter(name="*")] = Execution(),  # noqa: B008 it is frozen
    checks: Annotated[Checking, Parameter(name="*")] = Checking(),  # noqa: B008
    json: Json = False,
) -> None:
    """Cross-validate a ResNet-50 on a folder of chest X-rays, as the Prefect flow train-cv.

    If the run is killed, rerun the same command to resume it.

    Example: cxr train --data chest_xray.zip --run-id first
    """
    from cxr.cli import documents, tables
    from cxr.storage.run_folder import RunFolder

    limits = _as_values(checks)
    require_possible(config, execution)
    with prefect_session():
        from flows.train_cv import train_cv
        from tasks.training import require_address

        require_address(execution)
        path = cast(Path, train_cv(**asdict(config), **asdict(execution), **asdict(limits)))
    (documents if json else tables).show_results(RunFolder(path))


def _as_values(checks: Checking) -> Checking:
    """Return the checks with every limit in place of the TOML file, which the flow may run too far away to read."""
    return replace(checks, tolerances=asdict(Tolerances.of(checks.tolerances)))


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
    scored.

    Example: cxr score inbox --name pneumonia

    Args:
        inbox: Folder of batches, one folder each; read, never changed.
    """
    from cxr.cli import documents, tables, terminal
    from cxr.pipeline import score_inbox
    from cxr.serving.scoring.outcome import totals
    from cxr.storage.scores_folder import ScoresFolder

    limit = Tolerances.of(tolerances)
    folder = ScoresFolder.at(config.out)
    if config.runner == "ray":
        is_held = _score_as_flow(inbox, config, limit)
        (documents if json else tables).show_scoring_run(folder.scoring_runs()[0])
        sys.exit(1 if is_held else 0)
    with terminal.log_lines():
        scoring_run, outcomes = score_inbox(inbox, config, partial(_check_scores, limit=limit))
    (documents if json else tables).show_scoring_run(scoring_run.folder)
    sys.exit(1 if totals(outcomes)["held"] else 0)


def _check_scores(*batch: Any, limit: Tolerances) -> list[Verdict]:
    """Check a batch; a scoring run without new images does without the import."""
    from data_checks.gate import check_scores

    return check_scores(*batch, limit=limit)


def _score_as_flow(inbox: Path, config: ScoreConfig, limit: Tolerances) -> bool:
    """Run the flow score-batch; return whether a batch is held."""
    with prefect_session():
        from flows.score_batch import score_batch

        state = score_batch(inbox, **asdict(config), tolerances=asdict(limit), return_state=True)
        if not state.is_completed() and state.name != "Held":
            state.result()
    return state.name == "Held"


@app.command(group=groups.SERVICES)
def up(
    *,
    services: Services = Path("services"),
    port: int = 4200,
    page_port: int = 8501,
    endpoint_port: int = 8600,
    name: str = "pneumonia",
    notify: Annotated[str | None, Parameter(env_var="CXR_NOTIFY")] = None,
) -> None:
    """Start Prefect's server, deployments, workers, the page and the endpoint here; what is up stays as it is.

    Example: cxr up

    Args:
        port: Port of the server, which listens on the loopback address alone.
        page_port: Port of the page, likewise.
        endpoint_port: Port of the endpoint, as `cxr serve` runs it, likewise.
        name: Name of the endpoint's model; without a champion it waits for one.
        notify: Address of a webhook that is notified of runs that failed, crashed, or are held.
    """
    from deployments import services as parts

    ports = {"page_port": page_port, "endpoint_port": endpoint_port}
    for line in parts.up(services, port, **ports, model=name, notify=notify):
        say(line)
    say("`cxr status` shows what runs, `cxr down` stops it")


@app.command(group=groups.SERVICES)
def deploy(*, wait: int = 0, notify: Annotated[str | None, Parameter(env_var="CXR_NOTIFY")] = None) -> None:
    """Create pools, automations and deployments on the Prefect server that PREFECT_API_URL names, as `cxr up` does.

    Example: cxr deploy

    Args:
        wait: Seconds to wait for the server's first answer, where both are started at once.
        notify: Address of a webhook that is notified of runs that failed, crashed, or are held.
    """
    from deployments import services as parts

    if wait < 0:
        raise ConfigError(f"--wait must be 0 or more, got {wait}.")
    if "PREFECT_API_URL" not in os.environ:
        raise RunError("PREFECT_API_URL names no Prefect server: set it, or start one on this machine with `cxr up`.")
    require_named_server(patience_s=wait)
    for line in parts.deploy(parts.own_environment(), notify=notify or None):
        say(line)
    say("pools and deployments are ready")


@app.command(group=groups.SERVICES)
def down(*, services: Services = Path("services")) -> None:
    """Stop what `cxr up` has started, and nothing else; a run that is stopped resumes when it is started again.

    Example: cxr down
    """
    from deployments import services as parts

    stopped = parts.down(services)
    for name in stopped:
        say(f"{name} stopped")
    if not stopped:
        say("nothing was up")


@app.command(group=groups.SERVICES)
def status(*, services: Services = Path("services"), json: Json = False) -> None:
    """Show which services are up, the last runs and why they failed, the next scheduled one, and where the logs are.

    Example: cxr status
    """
    from cxr.cli import documents
    from deployments.status import describe, survey

    found = survey(services)
    if json:
        documents.write(found.as_dict())
        return
    for line in describe(found):
        say(line)


@app.command(name="app", group=groups.SERVICES)
def page(
    *,
    port: int = 8501,
    experiments: Experiments = Path("experiments"),
    models: Models = Path("models"),
    scores: Annotated[Path, Parameter(help="Folder of the scores.")] = Path("scores"),
    cache: Path = Path("cache"),
) -> None:
    """Serve the page on this machine: classify images, look at runs, scoring runs and models; Ctrl-C ends it.

    Example: cxr app

    Args:
        port: Port on the loopback address; 0 takes any that is free.
        cache: Folder for compiled kernels, as for `cxr score`; safe to delete.
    """
    from app.server import Folders, prepare

    address, command = prepare(Folders(experiments, models, scores, cache), port)
    say(f"page     {address}  (Ctrl-C ends it)")
    say(DISCLAIMER)
    os.execv(command[0], command)  # noqa: S606 one process, which gets the signals itself


DRAWN: dict[str, Any] = {
    "preset": "quick",
    "weights": "none",
    "zero_init_residual": True,
    "size": 128,
    "standardise": "percentile",
    "augment": "none",
    "epochs": 7,
    "batch_size": 16,
    "learning_rate": 5e-4,
}
"""A recipe that learns what is drawn within minutes, from random weights and a few hundred images."""


@app.command(group=groups.TRAINING)
def demo() -> None:
    """Draw synthetic images, cross-validate on them, package the model, and score a new folder with bad files in it.

    Example: cxr demo
    """
    from cxr.images.synthetic import draw_images, draw_inbox

    images, inbox = Path("demo") / "chest_xray", Path("demo") / "inbox"
    if not images.exists():
        draw_images(images, n_images=400, seed=0)
    train(
        config=TrainConfig(data=str(images), folds=4, **DRAWN),
        execution=Execution(run_id="demo"),
    )
    package("demo", name="demo", promote=True)
    if not inbox.exists():
        draw_inbox(inbox, n_images=40, seed=1)
    score(inbox, config=ScoreConfig(name="demo", out=Path("demo") / "scores", settle=0))
