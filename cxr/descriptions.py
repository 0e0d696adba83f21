"""Descriptions of collections: how the tables of a known set are read, as `--describe` takes them.

A description is a TOML file. Its keys are the names of options, with `_` for `-`; a table `[values.COLUMN]` says what
the values of a column mean. `title` and `note` are for people. The files in `cxr/sets/` come with the program.
"""

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.errors import ConfigError

SETS = Path(__file__).parent / "sets"
LISTS = ("header", "label_columns", "view_positions", "subgroup_column")
"""Options whose values may be given at once, separated by commas."""


@dataclass(frozen=True)
class Description:
    """How the tables of one set are read."""

    name: str
    title: str
    note: str
    """What a person should know before using it."""
    options: Mapping[str, Any]
    """Values of options by name; `value` has one text COLUMN:VALUE=MEANING for each value of `[values]`."""

    @property
    def typed(self) -> list[str]:
        """The options as one types them in a shell."""
        return [
            f"--{name.replace('_', '-')} {shlex.quote(str(text))}"
            for name, value in self.options.items()
            for text in ([",".join(value)] if name in LISTS else value if isinstance(value, list) else [value])
        ]


def shipped() -> list[Description]:
    """Return the descriptions that come with the program, by name."""
    return [_parse(path) for path in sorted(SETS.glob("*.toml"))]


def read_description(name: str) -> Description:
    """Return a description by the name of its set, or from a TOML file.

    Raises:
        ConfigError: there is no such set or file, or it is no description.
    """
    known = SETS / f"{name}.toml"
    if "/" not in name and known.is_file():
        return _parse(known)
    path = Path(name).expanduser()
    if not path.is_file():
        names = ", ".join(file.stem for file in sorted(SETS.glob("*.toml")))
        raise ConfigError(f"--describe must be a TOML file or one of {names}, got {name!r}.")
    return _parse(path)


def _parse(path: Path) -> Description:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"--describe {str(path)!r} cannot be read as TOML: {error}.") from error
    title, note = (str(values.pop(name, "")) for name in ("title", "note"))
    meanings = values.pop("values", {})
    if not isinstance(meanings, dict) or not all(isinstance(table, dict) for table in meanings.values()):
        raise ConfigError(f"--describe {str(path)!r}: [values] needs a table for each column, as [values.Target].")
    if meanings:
        values["value"] = [
            f"{column}:{value}={meaning}" for column, table in meanings.items() for value, meaning in table.items()
        ]
    return Description(path.stem, title, note, values)
