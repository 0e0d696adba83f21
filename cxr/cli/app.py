"""The command line's application, and the parameters that verbs share.

`app` has the verbs. `app.meta` is what a command line calls: it takes the options that all verbs have (--quiet,
--verbose), wherever they stand, and hands all other words to `app`.
"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cxr import __version__
from cxr.cli import groups, terminal
from cxr.cli.arguments import require_usable
from cxr.cli.terminal import say
from cxr.errors import ConfigError
from cxr.wording import DISCLAIMER

HELP = f"""Cross-validated chest X-ray classification as a batch pipeline.

{DISCLAIMER}
"""


app = groups.GroupedApp(
    name="cxr",
    help=HELP,
    version=__version__,
    result_action="return_value",
    config=require_usable,
    default_parameter=Parameter(negative_iterable=()),  # no --empty-NAME beside an option that may be repeated
)
app["--help"].group = app["--version"].group = groups.SHELL
app.meta.config = ()
app.meta.end_of_options_delimiter = ""  # it is the verb's


Experiments = Annotated[Path, Parameter(help="Folder that holds all runs, or a URL such as s3://bucket/runs.")]


Models = Annotated[Path, Parameter(help="Folder that holds all models.")]


Device = Annotated[str, Parameter(help="cpu, cuda:N, or auto: a GPU if there is one.")]


Json = Annotated[
    bool,
    Parameter(
        name="--json",
        negative="",
        group=groups.OUTPUT,
        show_default=False,
        help="Print one JSON document in place of tables and lines; log lines still go to standard error.",
    ),
]


@app.meta.default
def launch(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    quiet: Annotated[bool, Parameter(negative="", group=groups.OUTPUT, show_default=False)] = False,
    verbose: Annotated[bool, Parameter(negative="", group=groups.OUTPUT, show_default=False)] = False,
) -> object:
    """Run a verb.

    Args:
        words: The verb and its arguments.
        quiet: Print nothing but errors; with --json, the document too.
        verbose: Also show debug lines, where each line comes from, what Prefect logs, and the origin of an error.
    """
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose cannot be given together: leave one out.")
    with terminal.loudness(quiet=quiet, verbose=verbose):
        try:
            return app(words)
        except Exception as error:
            terminal.show_origin(error)
            raise


@app.command(name="--install-completion", group=groups.SHELL)
def install_completion(*, shell: Literal["bash", "zsh", "fish"] | None = None) -> None:
    """Install the completion of verbs and options with the Tab key, for your shell.

    Example: cxr --install-completion

    Args:
        shell: Your shell; by default the one that this command was typed in.
    """
    from cyclopts.completion.detect import ShellDetectionError

    try:
        path = app.install_completion(shell=shell)
    except ShellDetectionError as error:
        raise ConfigError("it is not known which shell this is: give --shell bash, zsh or fish.") from error
    say(f"written  {path}")
    say("it works in shells that are started from now on")
