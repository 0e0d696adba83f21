"""The verbs that answer other programs: serve and listen."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from cxr.cli import groups
from cxr.cli.app import Device, Models, app
from cxr.cli.terminal import say
from cxr.config import Compile, ScorePrecision
from cxr.endpoint.limits import Limits
from cxr.wording import DISCLAIMER

if TYPE_CHECKING:
    from cxr.endpoint.listener import Listener


SPINS = "3000"
"""How often a thread of libgomp that waits looks for work before it sleeps: 300,000 times by default, and on a busy
machine it then keeps a core from the very thread that it waits for (docs/decisions/threads-that-sleep-soon.md)."""


@app.command(group=groups.SERVICES)
def serve(
    *,
    name: str,
    host: str = "127.0.0.1",
    port: int = 8600,
    token: Annotated[str | None, Parameter(env_var="CXR_TOKEN")] = None,
    wait: Annotated[bool, Parameter(negative="")] = False,
    limits: Annotated[Limits, Parameter(name="*")] = Limits(),  # noqa: B008 it is frozen
    models: Models = Path("models"),
    scores: Path = Path("scores"),
    device: Device = "auto",
    precision: ScorePrecision = "auto",
    compile: Compile = "auto",
    cache: Path = Path("cache"),
) -> None:
    """Answer HTTP requests with the champion: predictions, maps of where it looked; nothing is kept; Ctrl-C ends it.

    A line of JSON on standard error tells of each request, without names.

    Example: cxr serve --name pneumonia

    Args:
        name: Name of the model; its champion at the start answers until the end.
        host: Address of this machine to listen on; one that other machines reach needs a token.
        port: Port to listen on; 0 takes any that is free.
        token: What every request has to carry in the header Authorization, after Bearer; 16 characters or more.
        wait: Without a champion, answer with status 503 until there is one, as a service should.
        scores: Folder of the scores, whose later labels /metrics tells of; it need not exist.
        precision: Arithmetic, as for `cxr score`.
        compile: Compile the network, as for `cxr score`; auto uses what scoring has compiled.
        cache: Folder for compiled kernels, as for `cxr score`; safe to delete.
    """
    from cxr.endpoint.listener import listen

    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when torch is imported, which is below
    listener = listen(host, port, token)
    from cxr.cli import terminal
    from cxr.serving.registry import load_champion

    with listener.socket, terminal.log_lines():
        package = None if wait else load_champion(models, name)  # before torch is imported, which takes seconds
        from cxr.endpoint import guard, server

        with terminal.bare_lines(guard.__name__):
            if package is None:
                _wait_for_champion(models, name, listener)
                package = load_champion(models, name)
            from cxr.serving.predictor import Predictor
            from cxr.storage.scores_folder import ScoresFolder

            predictor = Predictor(package, device=device, precision=precision, compile=compile, cache=cache)
            announce = partial(_announce, listener.address, f"{package.name} version {package.version}")
            feedback = ScoresFolder.at(scores).feedback(package.name)
            server.run(predictor, listener, limits, announce, feedback)


def _wait_for_champion(models: Path, name: str, listener: "Listener") -> None:
    """Let the endpoint say that it has no model, until it has one."""
    from cxr.endpoint.waiting import wait_for_champion
    from cxr.serving.registry import champion_version
    from cxr.storage.model_folder import ModelFolder

    model = ModelFolder.named(models, name)
    if champion_version(model) is None:
        _announce(listener.address, f"none yet: {name} has no champion")
        sentence = f"model {name} has no champion yet: `cxr package RUN --name {name} --promote` makes one."
        wait_for_champion(listener, lambda: champion_version(model) is not None, sentence)


def _announce(address: str, model: str) -> None:
    """Say where the endpoint is, and which model answers."""
    say(f"endpoint {address}  (Ctrl-C ends it)")
    say(f"model    {model}")
    say(DISCLAIMER)


@app.command(group=groups.SERVICES)
def listen(
    inbox: Path = Path("inbox"),
    /,
    *,
    ae_title: str = "CXR",
    caller: tuple[str, ...] = (),
    host: str = "127.0.0.1",
    port: int = 11112,
    batch: Literal["day", "study"] = "day",
    max_mb: int = 64,
) -> None:
    """Receive radiographs over DICOM into an inbox (storage SCP); Ctrl-C ends it.

    An image is confirmed once it is on the disk, whole, under its SOP Instance UID, where scoring finds it. C-ECHO is
    answered.

    Example: cxr listen inbox --ae-title CXR --caller PACS

    Args:
        inbox: Folder of batches; made if it is missing.
        ae_title: AE title of this node, which senders have to call.
        caller: AE title that may call; repeat for several. Without it anybody may who reaches the address.
        host: Address of this machine to listen on; one that other machines reach needs --caller.
        port: Port to listen on; 0 takes any that is free.
        batch: What a batch of the inbox is: the images of a day, or of a study.
        max_mb: Size of an image in MiB, at most, 1 to 256.
    """
    from cxr.cli import terminal
    from cxr.receiving.delivery import Delivery
    from cxr.receiving.node import Address, Node
    from cxr.storage.files import require_local

    require_local("INBOX", inbox)
    address = Address(ae_title=ae_title, host=host, port=port, callers=caller)
    delivery = Delivery(inbox, batch)
    node = Node(address, delivery, max_mb)
    with terminal.log_lines(), delivery.open():
        port = node.start()
        say(f"node     {ae_title} at {host}:{port}  (Ctrl-C ends it)")
        say(f"callers  {', '.join(caller) or 'anybody'}")
        say(f"inbox    {inbox}, a batch for each {batch}")
        number = terminal.wait_for_signal()
        node.stop()
    signal.raise_signal(number)
