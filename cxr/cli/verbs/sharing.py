"""Verbs that take packages to other places and back: package push, package pull."""

from pathlib import Path

from cxr.cli import groups
from cxr.cli.app import Models, app
from cxr.cli.terminal import say
from cxr.cli.verbs.models import say_made

_package = app["package"]


@_package.command(group=groups.MODELS)
def push(model: str, destination: str, /, *, models: Models = Path("models")) -> None:
    """Copy a version of a model to a folder, a bucket or the Hugging Face Hub, where others can pull it.

    What is there is never overwritten. If the push is killed, rerun the same command.

    Example: cxr package push pneumonia s3://bucket/models

    Args:
        model: Name of the model, or NAME/VERSION; without a version, the champion.
        destination: A folder, s3://bucket/folder (needs the extra [s3]), or hf://owner/repository, also with @BRANCH
            (needs the extra [hub]); a repository that does not exist is made, and is private.
    """
    from cxr.cli import terminal
    from cxr.serving import registry
    from cxr.sharing.place import open_place
    from cxr.sharing.push import push as write

    name, _, version = model.partition("/")
    with terminal.log_lines():
        package = registry.load_version(models, name, version or None)
        is_new = write(package, open_place(destination, "DESTINATION"))
    say(f"{'pushed' if is_new else 'already there'}  {name} {package.version} in {destination}")
    say(f"to take it up elsewhere: cxr package pull {destination} --name {name} --version {package.version}")


@_package.command(group=groups.MODELS)
def pull(source: str, /, *, name: str, version: str | None = None, models: Models = Path("models")) -> None:
    """Take up a version from a folder, a bucket or the Hugging Face Hub as the next version of the model.

    Every file is held against its hash. The champion stays: `cxr promote` changes it.

    Example: cxr package pull s3://bucket/models --name pneumonia

    Args:
        source: Where it was pushed to: a folder (also another `models` folder), s3://bucket/folder, or
            hf://owner/repository, also with @REVISION.
        name: Name of the model, there and here.
        version: Its version there; by default the highest.
    """
    from cxr.cli import terminal
    from cxr.sharing.place import open_place
    from cxr.sharing.pull import pull as take_up
    from cxr.storage.model_folder import ModelFolder

    model = ModelFolder.named(models, name)
    with terminal.log_lines():
        taken = take_up(open_place(source, "SOURCE"), model, version)
    say_made(model, taken)
