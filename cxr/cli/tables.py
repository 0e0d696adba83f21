"""A table on a terminal, and the lines below it that say where files are."""

from collections.abc import Collection, Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cxr.cli.terminal import is_quiet, say
from cxr.wording import visible

Files = Mapping[str, object]


def new_table(columns: Iterable[str], *, left: Collection[str] = (), title: str | None = None) -> Table:
    """Return an empty table; columns are aligned to the right but for those in `left`."""
    table = Table(title=title and Text(visible(title)), title_justify="left")
    for column in columns:
        table.add_column(Text(visible(column)), justify="left" if column in left else "right")
    return table


def add_row(table: Table, *cells: str) -> None:
    """Add a row whose cells are text, never Rich's markup."""
    table.add_row(*(Text(visible(cell)) for cell in cells))


def print_table(table: Table, least_width: int) -> None:
    """Print a table, unless the command is quiet, without cutting its columns where the terminal is narrower."""
    if is_quiet():
        return
    Console(width=max(least_width, Console().width)).print(table)


def say_files(files: Files) -> None:
    """Print where files are, by what is in them."""
    for name, path in files.items():
        say(f"{name:<8} {path}")
