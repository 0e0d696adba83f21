"""The units of systemd against each other and the code that they start; no systemd is needed."""

import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest

from deployments.services import PREFECT_DEFAULTS
from tests.support.commands import assert_are_settings, assert_is_understood
from tests.support.processes import PROJECT

SYSTEMD = PROJECT / "deployments" / "systemd"
SHARED = SYSTEMD / "cxr-.service.d" / "shared.conf"
UNITS = sorted(SYSTEMD.glob("*.service"))
HOME = "/srv/cxr"


def settings_of(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Return the settings of a unit and its drop-in; systemd lets a name stand more than once."""
    settings: dict[str, list[str]] = {}
    for path in paths:
        for line in path.read_text().splitlines():
            name, is_setting, value = line.partition("=")
            if is_setting and not line.startswith("#"):
                settings.setdefault(name, []).append(value)
    return settings


def environment_of(unit: Path) -> dict[str, str]:
    settings = settings_of([unit, SHARED])
    return dict(word.split("=", 1) for line in settings["Environment"] for word in line.split())


def test_every_service_has_a_unit_to_which_the_drop_in_applies() -> None:
    names = ["deploy", "endpoint", "page", "receiver", "server", "worker-cpu", "worker-gpu@"]
    assert [unit.name for unit in UNITS] == [f"cxr-{name}.service" for name in names]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_program_of_the_project(unit: Path) -> None:
    settings = settings_of([unit, SHARED])
    (command,) = settings["ExecStart"]
    program, *words = shlex.split(command)
    assert Path(program).parent == Path(HOME) / ".venv" / "bin"
    assert_is_understood(Path(program).name, *words)
    assert settings["WorkingDirectory"] == [HOME]
    names = [name for key in ("After", "Requires", "Wants") for line in settings.get(key, []) for name in line.split()]
    assert {name for name in names if name.startswith("cxr-")} <= {other.name for other in UNITS}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_has_the_settings_of_cxr_up(unit: Path) -> None:
    environment = environment_of(unit)
    assert_are_settings(environment)
    shared = {name: value for name, value in environment.items() if name in PREFECT_DEFAULTS}
    assert shared == {name: PREFECT_DEFAULTS[name] for name in ("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "DO_NOT_TRACK")}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_may_write_to_named_folders_of_the_project_alone(unit: Path) -> None:
    settings = settings_of([unit, SHARED])
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["CapabilityBoundingSet"] == [""]
    assert settings["NoNewPrivileges"] == ["true"]
    (writable,) = settings["ReadWritePaths"]
    assert not {HOME, f"{HOME}/.venv"} & set(writable.split())
    assert (f"{HOME}/inbox" in writable.split()) == (unit.name == "cxr-receiver.service"), "scoring only reads it"
    page = (PROJECT / "docs" / "how-to" / "deploy.md").read_text()
    made = page.partition("/srv/cxr/{")[2].partition("}")[0].split(",")
    assert {path.removeprefix(f"{HOME}/") for path in writable.split()} <= set(made), "systemd wants them to exist"


def test_only_the_gpus_worker_sees_devices_and_page_and_endpoint_see_no_secrets_and_no_other_machine() -> None:
    settings = {unit.name: settings_of([unit, SHARED]) for unit in UNITS}
    assert [name for name, own in settings.items() if "PrivateDevices" not in own] == ["cxr-worker-gpu@.service"]
    open_to_all = [name for name, own in settings.items() if "EnvironmentFile" not in own]
    assert open_to_all == ["cxr-endpoint.service", "cxr-page.service"]
    for name in open_to_all:
        assert settings[name]["IPAddressAllow"] == ["localhost"]
        assert settings[name]["IPAddressDeny"] == ["any"]


def test_a_worker_keeps_what_it_downloads_in_a_folder_that_it_may_write_to() -> None:
    for unit in UNITS:
        if "worker" in unit.name:
            (writable,) = settings_of([unit])["ReadWritePaths"]
            assert f"{HOME}/data" in writable.split()
            environment = environment_of(unit)
            assert all(environment[name].startswith(f"{HOME}/data/") for name in ("KAGGLEHUB_CACHE", "TORCH_HOME"))
