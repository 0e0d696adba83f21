"""compose.yaml, the Dockerfile, the units and Prefect's files against the code that they start.

No container engine and no systemd is needed: every path, command, pool and setting in them is looked up.
"""

import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from app.server import ADDRESS
from deployments.services import CPU_POOL, GPU_POOL, PAGE_PORT, PREFECT_DEFAULTS
from flows.cli import app
from tests.support.processes import BIN, PROJECT

DEPLOYMENTS = PROJECT / "deployments"
COMPOSE = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text())
UNITS = sorted((DEPLOYMENTS / "systemd").glob("*.service"))
HOME = "/srv/cxr"
"""Where the project lies in the image and on a machine with systemd."""


def unit(path: Path) -> dict[str, list[str]]:
    """Return the settings of a unit; systemd lets a name stand more than once."""
    settings: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting:
            settings.setdefault(name, []).append(value)
    return settings


def assert_is_ours(program: str, *words: str) -> None:
    """The program is installed with the project, and `cxr` has the verb."""
    assert (BIN / program).exists()
    if program == "cxr":
        assert words[0] in set(app)
    if "--pool" in words:
        assert words[words.index("--pool") + 1] in (CPU_POOL, GPU_POOL)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_a_program_of_the_project(path: Path) -> None:
    settings = unit(path)
    (command,) = settings["ExecStart"]
    program, *words = shlex.split(command)
    assert Path(program).parent == Path(HOME) / ".venv" / "bin"
    assert_is_ours(Path(program).name, *words)
    assert settings["WorkingDirectory"] == [HOME]
    names = [name for line in settings.get("After", []) + settings.get("Requires", []) for name in line.split()]
    ours = {name for name in names if name.startswith("cxr-")}
    assert ours <= {unit_path.name for unit_path in UNITS}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_has_the_settings_of_cxr_up(path: Path) -> None:
    environment = dict(word.split("=", 1) for line in unit(path)["Environment"] for word in line.split())
    shared = {name: value for name, value in environment.items() if name in PREFECT_DEFAULTS}
    assert shared == {name: PREFECT_DEFAULTS[name] for name in ("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "DO_NOT_TRACK")}


def test_compose_builds_from_files_that_exist_and_starts_programs_of_the_project() -> None:
    build = COMPOSE["x-cxr"]["build"]
    context = (DEPLOYMENTS / build["context"]).resolve()
    assert context == PROJECT
    assert (context / build["dockerfile"]).exists()
    for service in COMPOSE["services"].values():
        if service["image"] == "cxr":
            assert_is_ours(*service["command"])
    assert (
        COMPOSE["x-client"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
        == PREFECT_DEFAULTS["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
    )
    page = " ".join(COMPOSE["services"]["page"]["healthcheck"]["test"])
    assert f"http://{ADDRESS}:{PAGE_PORT}/_stcore/health" in page


def test_the_image_copies_files_that_exist_and_keeps_the_flows_beside_the_core() -> None:
    lines = (DEPLOYMENTS / "Dockerfile").read_text().splitlines()
    sources = [words[-2] for words in map(str.split, lines) if words and words[0] == "COPY"]
    assert sources == ["requirements.lock", "."]
    assert all((PROJECT / source).exists() for source in sources)
    assert any("--editable ." in line for line in lines), "a wheel holds the core alone"
    assert f"WORKDIR {HOME}" in lines
    ignored = (PROJECT / ".dockerignore").read_text().split()
    needed = ("app", "cxr", "data_checks", "deployments", "flows", "tasks", "prefect.yaml", "prefect.toml")
    assert not set(ignored) & set(needed)
    folders = re.findall(rf"{HOME}/(\w+)", (DEPLOYMENTS / "compose.yaml").read_text())
    made = next(line for line in lines if line.startswith("RUN mkdir")).split()
    assert set(folders) <= set(made)


def test_every_deployment_names_a_flow_that_is_imported_from_the_project() -> None:
    described = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    assert len(described) == 4
    for deployment in described:
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), name)
        assert deployment["work_pool"]["name"] in (CPU_POOL, GPU_POOL)
        assert set(deployment.get("parameters", {})) <= set(flow.parameters.properties)


def test_the_services_have_the_settings_of_prefect_toml() -> None:
    settings = tomllib.loads((PROJECT / "prefect.toml").read_text())
    values = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": settings["server"]["analytics_enabled"],
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": settings["server"]["ephemeral"]["startup_timeout_seconds"],
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": settings["flows"]["heartbeat_frequency"],
    }
    assert {name: str(value).lower() for name, value in values.items()}.items() <= PREFECT_DEFAULTS.items()
