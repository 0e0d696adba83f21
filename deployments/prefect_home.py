"""Where Prefect keeps its database on this machine: in the project's folder, unless the user names another place.

The project's folder is the checkout; with an installed wheel, the folder in which a command is typed.

Prefect's own default, `~/.prefect`, is shared by all projects of a user. A newer Prefect, used once for any of them,
leaves a database there that the locked one cannot open: it tries for minutes, and ends with a traceback.
"""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from cxr import application
from cxr.errors import RunError

DATABASE_URLS = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
MIGRATIONS = "server/database/_migrations/versions/sqlite"


def home_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return PREFECT_HOME, and where the user's profiles are; nothing if `environment` has a home.

    A project's folder that cannot be written to is no home either: Prefect's default is used.
    """
    project = Path.cwd() if application.is_carried() else application.folder()
    if "PREFECT_HOME" in environment or not os.access(project, os.W_OK):
        return {}
    profiles = _of_the_user(".prefect") / "profiles.toml"
    own = {"PREFECT_HOME": str(project / ".prefect")}
    return own | ({"PREFECT_PROFILES_PATH": str(profiles)} if profiles.exists() else {})


def require_readable_database(environment: Mapping[str, str]) -> None:
    """Raise RunError if the SQLite database in Prefect's home is damaged, or was written by a newer Prefect.

    Args:
        environment: of the server that is about to start.
    """
    if any(name in environment for name in DATABASE_URLS):
        return
    home = Path(environment["PREFECT_HOME"]) if "PREFECT_HOME" in environment else _of_the_user(".prefect")
    database = home / "prefect.db"
    revision = _revision(database) if database.exists() else None
    if revision is not None and not _is_known(revision):
        raise RunError(
            f"Prefect's database {str(database)!r} was written by a newer Prefect than {version('prefect')}, which cxr "
            "uses, and cannot be opened: set PREFECT_HOME to another folder, or unset it to use the project's own."
        )


def _of_the_user(name: str) -> Path:
    """Return a path in the user's home; `~` stays where the machine knows none."""
    return Path(os.path.expanduser(f"~/{name}"))  # noqa: PTH111 Path.expanduser raises an error there


def _revision(database: Path) -> str | None:
    """Return the revision of a database's tables; None if it has none yet, or cannot be looked into."""
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as error:
        raise RunError(
            f"Prefect's database {str(database)!r} is damaged ({error}): put back a copy, or move it away."
        ) from error
    return str(row[0]) if row else None


def _is_known(revision: str) -> bool:
    """Return whether the installed Prefect has the step that leads to a revision; True if that cannot be told."""
    found = find_spec("prefect")
    steps = list((Path(str(found.origin)).parent / MIGRATIONS).glob("*.py")) if found else []
    line = f'revision = "{revision}"'
    return not steps or any(line in step.read_text(encoding="utf-8").splitlines() for step in steps)
