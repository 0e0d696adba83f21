import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import cxr
from cxr import application
from cxr.errors import RunError
from deployments import prefect_home, services
from tests.support.processes import BIN, PROJECT

NEWER = "f" * 12


def leave_database(home: Path, revision: str) -> None:
    """Leave what a Prefect leaves in its home: a database whose tables have a revision."""
    home.mkdir()
    with closing(sqlite3.connect(home / "prefect.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        connection.commit()


def newest_revision() -> str:
    """The revision that the installed Prefect migrates a new database to, by Alembic's own reckoning."""
    code = (
        "from pathlib import Path; import prefect; from alembic.script import ScriptDirectory\n"
        "folder = Path(prefect.__file__).parent / 'server/database/_migrations'\n"
        "script = ScriptDirectory(str(folder), version_locations=[str(folder / 'versions/sqlite')])\n"
        "print(script.get_current_head())"
    )
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_prefects_home_is_in_the_project_unless_the_user_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    assert prefect_home.home_settings(os.environ) == {"PREFECT_HOME": str(PROJECT / ".prefect")}
    assert services.own_environment()["PREFECT_HOME"] == str(PROJECT / ".prefect")
    monkeypatch.setenv("PREFECT_HOME", "/srv/prefect")
    assert prefect_home.home_settings(os.environ) == {}
    assert services.own_environment()["PREFECT_HOME"] == "/srv/prefect"


def test_the_users_profiles_still_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = tmp_path / ".prefect" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text("")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prefect_home.home_settings({})["PREFECT_PROFILES_PATH"] == str(profiles)


def test_with_an_installed_wheel_prefects_home_is_in_the_folder_in_which_a_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site-packages" / "cxr" / application.CARRIED).mkdir(parents=True)
    monkeypatch.setattr(cxr, "__file__", str(tmp_path / "site-packages" / "cxr" / "__init__.py"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert prefect_home.home_settings({}) == {"PREFECT_HOME": str(tmp_path / ".prefect")}


def test_a_project_that_cannot_be_written_is_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cxr, "__file__", "/proc/sys/cxr/__init__.py")
    assert prefect_home.home_settings({}) == {}


def test_a_newer_database_is_refused_and_every_known_one_is_not(tmp_path: Path) -> None:
    leave_database(tmp_path / "newer", NEWER)
    with pytest.raises(RunError, match=r"was written by a newer Prefect than .*set PREFECT_HOME to another folder"):
        prefect_home.require_readable_database({"PREFECT_HOME": str(tmp_path / "newer")})
    leave_database(tmp_path / "same", newest_revision())
    prefect_home.require_readable_database({"PREFECT_HOME": str(tmp_path / "same")})
    prefect_home.require_readable_database({"PREFECT_HOME": str(tmp_path / "none yet")})
    elsewhere = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://prefect@database/prefect"}
    prefect_home.require_readable_database({"PREFECT_HOME": str(tmp_path / "newer")} | elsewhere)


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(b"no database" * 100)
    with pytest.raises(RunError, match=r"prefect\.db' is damaged \(file is not a database\)"):
        prefect_home.require_readable_database({"PREFECT_HOME": str(tmp_path)})


@pytest.mark.parametrize("verb", ["validate", "up"])
def test_a_verb_that_would_start_a_server_on_it_says_so_at_once(
    verb: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    leave_database(tmp_path / "home", NEWER)
    words = {
        "validate": [f"--data={sample}", f"--experiments={tmp_path / 'experiments'}", f"--cache={tmp_path / 'cache'}"],
        "up": [f"--services={tmp_path / 'services'}", "--port=4299"],
    }
    environment = os.environ | {"PREFECT_HOME": str(tmp_path / "home")}
    ended = subprocess.run(
        [BIN / "cxr", verb, *words[verb]], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: Prefect's database '")
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "experiments").exists()
