"""Verbs for the services of this machine and for Prefect's server: up, down, status, deploy, app."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cxr.cli import groups
from cxr.cli.app import Experiments, Json, Models, app
from cxr.cli.terminal import say
from cxr.errors import ConfigError, RunError
from cxr.wording import DISCLAIMER
from flows.prefect_session import require_named_server

Services = Annotated[Path, Parameter(help="Folder for the services' process ids and logs.")]


@app.command(group=groups.SERVICES)
def up(
    *,
    services: Services = Path("services"),
    port: int = 4200,
    page_port: int = 8501,
    endpoint_port: int = 8600,
    name: str = "pneumonia",
    notify: Annotated[str | None, Parameter(env_var="CXR_NOTIFY")] = None,
    retrain: bool | None = None,
) -> None:
    """Start Prefect's server, deployments, workers, the page and the endpoint here; what is up stays as it is.

    Without a GPU here, the pool cxr-gpu and train-fold/default are left out; `cxr deploy` adds them.

    Example: cxr up

    Args:
        port: Port of the server, which listens on the loopback address alone.
        page_port: Port of the page, likewise.
        endpoint_port: Port of the endpoint, as `cxr serve` runs it, likewise.
        name: Name of the endpoint's model; without a champion it waits for one.
        notify: Address of a webhook that is notified of runs that failed, crashed, or are held.
        retrain: Whether runs of feedback/default start retrain/default from now on if they find a model surely below
            what its package promises; not given, as before.
    """
    from deployments import services as parts

    ports = {"page_port": page_port, "endpoint_port": endpoint_port}
    for line in parts.up(services, port, **ports, model=name, notify=notify, retrain=retrain):
        say(line)
    say("`cxr status` shows what runs, `cxr down` stops it")


@app.command(group=groups.SERVICES)
def deploy(
    *,
    wait: int = 0,
    notify: Annotated[str | None, Parameter(env_var="CXR_NOTIFY")] = None,
    retrain: bool | None = None,
) -> None:
    """Create pools, automations and deployments on the Prefect server that PREFECT_API_URL names, as `cxr up` does.

    Example: cxr deploy

    Args:
        wait: Seconds to wait for the server's first answer, where both are started at once.
        notify: Address of a webhook that is notified of runs that failed, crashed, or are held.
        retrain: Whether runs of feedback/default start retrain/default from now on if they find a model surely below
            what its package promises; not given, as before.
    """
    from deployments import services as parts

    if wait < 0:
        raise ConfigError(f"--wait must be 0 or more, got {wait}.")
    if "PREFECT_API_URL" not in os.environ:
        raise RunError("PREFECT_API_URL names no Prefect server: set it, or start one on this machine with `cxr up`.")
    require_named_server(patience_s=wait)
    for line in parts.deploy(parts.own_environment(), notify=notify or None, retrain=retrain):
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
