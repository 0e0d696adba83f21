"""compose.yaml, the Dockerfile and Prefect's files against each other and the code that they start.

No container engine is needed: every path, command, pool and setting in them is looked up.
"""

import importlib
import re
import tomllib
from inspect import signature
from typing import Any

import pytest
import yaml

from app.server import ADDRESS
from benchmarks.orchestrator import REDIS
from cxr import __version__
from cxr.cli.verbs.services import listen
from deployments.services import CPU_POOL, ENDPOINT_PORT, GPU_POOL, MODEL, PAGE_PORT, PREFECT_DEFAULTS, described_for
from tests.support.commands import assert_are_settings, assert_is_understood
from tests.support.processes import PROJECT

DEPLOYMENTS = PROJECT / "deployments"
COMPOSE = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("cxr:")}
DOCKERFILE = (DEPLOYMENTS / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
HOME = "/srv/cxr"
"""Where the project lies in the image and on a machine with systemd."""


def instructions(name: str) -> list[list[str]]:
    """Return the words of each instruction of a kind in the Dockerfile."""
    return [words[1:] for words in map(str.split, DOCKERFILE) if words and words[0] == name]


def image_environment() -> dict[str, str]:
    return dict(word.split("=", 1) for words in instructions("ENV") for word in words)


def places(service: dict[str, Any]) -> dict[str, str]:
    """Return where in a container each folder of CXR_DATA is mounted."""
    mounts = [re.fullmatch(r"\$\{CXR_DATA[^}]*\}/(\w+):([^:]+)(:ro)?", text) for text in service.get("volumes", [])]
    return {mount[1]: mount[2] for mount in mounts if mount}


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_compose_starts_a_program_of_the_project(name: str) -> None:
    assert_is_understood(*OURS[name]["command"])
    assert_are_settings(OURS[name].get("environment", {}))


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_compose_runs_in_an_image_that_it_can_build(name: str) -> None:
    build = OURS[name]["build"]
    context = (DEPLOYMENTS / build["context"]).resolve()
    assert context == PROJECT
    assert (context / build["dockerfile"]).exists()
    assert OURS[name]["image"] == f"cxr:{build['args']['DEVICE']}"
    assert (DEPLOYMENTS / f"requirements-{build['args']['DEVICE']}.lock").exists()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_of_compose_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] != "root"
    if name in OURS:
        assert [service["user"]] == instructions("USER")[-1]
        assert service["read_only"]
        assert service["tmpfs"][0].startswith("/tmp:exec,")  # noqa: S108 in a container
        assert image_environment()["HOME"] == "/tmp"  # noqa: S108


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_of_compose_waits_for_what_can_be_known_of_the_others(name: str) -> None:
    for other, when in SERVICES[name].get("depends_on", {}).items():
        if when["condition"] == "service_completed_successfully":
            assert SERVICES[other]["restart"] == "no"
        else:
            assert when["condition"] == "service_healthy"
            assert "healthcheck" in SERVICES[other]
    assert ("healthcheck" in SERVICES[name]) == (SERVICES[name]["restart"] != "no")


def test_compose_starts_storage_then_the_server_then_deployments_then_workers() -> None:
    order = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    assert order == {
        "database": set(),
        "redis": set(),
        "server": {"database", "redis"},
        "deploy": {"server"},
        "worker-cpu": {"deploy"},
        "worker-gpu": {"deploy"},
        "page": set(),
        "endpoint": set(),
        "receiver": set(),
    }
    pools = {name: service["command"][4] for name, service in OURS.items() if "--pool" in service["command"]}
    assert pools == {"worker-cpu": CPU_POOL, "worker-gpu": GPU_POOL}


def test_the_storage_of_compose_is_reached_by_the_server_alone() -> None:
    assert COMPOSE["networks"]["storage"]["internal"]
    assert {name for name, service in SERVICES.items() if "storage" in service.get("networks", [])} == {
        "database",
        "redis",
        "server",
    }
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"server": ["127.0.0.1:4200:4200"], "receiver": ["11112:11112"]}
    environment = SERVICES["server"]["environment"]
    assert "@database/" in environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    assert environment["PREFECT_REDIS_MESSAGING_URL"].startswith("redis://redis:")
    assert REDIS.items() <= environment.items()


def test_the_server_finds_in_prefects_integration_what_keeps_messages_in_redis() -> None:
    pytest.importorskip("prefect_redis", reason="the extra redis is not installed")
    broker, cache, ordering = (importlib.import_module(module) for module in REDIS.values())
    assert broker.Publisher
    assert broker.Consumer
    assert cache.Cache
    assert ordering.CausalOrdering


def test_a_health_check_of_compose_asks_where_the_service_listens() -> None:
    asked = {name: " ".join(service["healthcheck"]["test"]) for name, service in SERVICES.items() if name != "deploy"}
    assert f"http://{ADDRESS}:{PAGE_PORT}/_stcore/health" in asked["page"]
    assert f"http://127.0.0.1:{ENDPOINT_PORT}/health" in asked["endpoint"]
    assert "http://127.0.0.1:4200/api/health" in asked["server"]
    assert f"'127.0.0.1', {signature(listen).parameters['port'].default}" in asked["receiver"]
    for worker in ("worker-cpu", "worker-gpu"):
        assert "http://127.0.0.1:8080/health" in asked[worker]
        assert SERVICES[worker]["environment"]["PREFECT_WORKER_WEBSERVER_HOST"] == "127.0.0.1"
        assert "--with-healthcheck" in SERVICES[worker]["command"]


def test_the_workers_of_compose_have_the_heartbeat_of_cxr_up() -> None:
    name = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
    assert COMPOSE["x-client"][name] == PREFECT_DEFAULTS[name]


def test_what_is_downloaded_and_computed_outlives_its_container() -> None:
    assert places(SERVICES["worker-cpu"]) == places(SERVICES["worker-gpu"])
    mounted = places(SERVICES["worker-cpu"])
    assert set(mounted) == {"data", "inbox", "experiments", "models", "scores", "cache"}
    assert mounted.pop("data") == "/data"
    assert mounted == {name: f"{HOME}/{name}" for name in mounted}
    assert places(SERVICES["page"]).items() <= mounted.items()
    assert places(SERVICES["endpoint"]) == {name: mounted[name] for name in ("models", "scores", "cache")}
    assert places(SERVICES["receiver"]) == {"inbox": mounted["inbox"]}
    assert yaml.safe_load(instructions("VOLUME")[0][0]) == ["/data"]
    assert all(image_environment()[name].startswith("/data/") for name in ("KAGGLEHUB_CACHE", "TORCH_HOME"))
    (made,) = [words for words in instructions("RUN") if words[0] == "install"]
    assert {"/data", *mounted} <= set(made), "a container's user may write to what is mounted"


def test_the_pages_name_each_variable_of_compose() -> None:
    used = set(re.findall(r"\$\{(CXR_\w+)", (DEPLOYMENTS / "compose.yaml").read_text()))
    page = (PROJECT / "docs" / "how-to" / "deploy.md").read_text()
    assert used == set(re.findall(r"CXR_[A-Z_]+", page))


def test_the_image_copies_files_that_exist_and_keeps_the_flows_beside_the_core() -> None:
    sources = [words[0] for words in instructions("COPY") if not words[0].startswith("--from=")]
    assert sources == ["deployments/*.lock", "."]
    assert list(PROJECT.glob(sources[0]))
    assert any("--editable ." in line for line in DOCKERFILE), "the project's folder is then the image's"
    assert [HOME] in instructions("WORKDIR")
    assert instructions("USER") == [["1000:1000"]]


def test_the_image_holds_the_program_and_neither_tests_nor_secrets() -> None:
    first, *allowed = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line[:1] not in "#"]
    assert first == "*"
    assert allowed.pop() == "**/__pycache__"
    held = {line.removeprefix("!") for line in allowed if line.startswith("!")}
    assert len(held) == len(allowed)
    packages = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    assert set(packages) - {"deployments"} < held
    assert {"prefect.yaml", "prefect.toml", "requirements.lock", "deployments/*.py", "deployments/*.lock"} < held
    held.remove("hatch_build.py")  # which the build of the package runs, where there is one
    assert all(list(PROJECT.glob(pattern)) for pattern in held)
    assert not {name for name in held if name.startswith(("tests", ".", "deployments/.", "deployments/*env"))}


def test_the_image_is_labelled_and_built_with_the_uv_of_make() -> None:
    label = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', "\n".join(DOCKERFILE)))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert label["version"] == __version__
    assert label["licenses"] == project["license"]
    assert label["description"] == project["description"]
    versions = [
        re.findall(r"uv==([\d.]+)", path.read_text()) for path in (DEPLOYMENTS / "Dockerfile", PROJECT / "Makefile")
    ]
    assert versions[0] == versions[1]


def test_the_image_has_a_list_of_what_was_installed_into_its_environment_where_its_label_says() -> None:
    making = instructions("RUN").index(
        ["cyclonedx-py", "environment", "--output-reproducible", "--output-file", "/srv/sbom.cdx.json", "/srv/venv"]
    )
    installing = [k for k, words in enumerate(instructions("RUN")) if words[:3] == ["uv", "pip", "install"]]
    assert max(installing) < making
    (place,) = re.findall(r'cxr\.sbom="([^"]*)"', "\n".join(DOCKERFILE))
    assert ["--from=builder", "/srv/sbom.cdx.json", place] in instructions("COPY")
    assert ["--from=builder", "/srv/venv", "/srv/venv"] in instructions("COPY")
    assert f"cat {place}" in (PROJECT / "docs" / "how-to" / "deploy.md").read_text()


def test_every_deployment_names_a_flow_that_is_imported_from_the_project() -> None:
    described = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    assert len(described) == 6
    for deployment in described:
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), name)
        assert deployment["work_pool"]["name"] in (CPU_POOL, GPU_POOL)
        assert set(deployment.get("parameters", {})) <= set(flow.parameters.properties)


def test_without_a_gpu_the_pool_for_single_folds_has_no_deployment_and_all_others_are_as_described() -> None:
    file = PROJECT / "prefect.yaml"
    with described_for(file, True) as same:
        assert same == file
    with described_for(file, False) as other:
        left = yaml.safe_load(other.read_text())
    whole = yaml.safe_load(file.read_text())
    (single_folds,) = [each for each in whole["deployments"] if each not in left["deployments"]]
    assert single_folds["entrypoint"].endswith(".train_fold")
    whole["deployments"].remove(single_folds)
    assert left == whole


def test_the_endpoint_has_the_model_of_the_nightly_deployment_and_waits_for_it() -> None:
    described = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    (nightly,) = [deployment for deployment in described if deployment["name"] == "nightly"]
    assert nightly["parameters"]["name"] == MODEL
    for flow in ("feedback", "retrain"):
        (of_flow,) = [deployment for deployment in described if deployment["entrypoint"].endswith(f".{flow}")]
        assert of_flow["parameters"]["name"] == MODEL
    command = ["cxr", "serve", "--name", MODEL, "--wait"]
    assert SERVICES["endpoint"]["command"] == command
    unit = (DEPLOYMENTS / "systemd" / "cxr-endpoint.service").read_text()
    assert f"ExecStart={HOME}/.venv/bin/{' '.join(command)}\n" in unit


def test_the_receiver_writes_to_the_inbox_of_the_nightly_deployment_and_asks_for_a_caller() -> None:
    assert SERVICES["worker-cpu"]["volumes"][1].endswith("/inbox:ro"), "scoring only reads it"
    assert SERVICES["receiver"]["volumes"] == ["${CXR_DATA}/inbox:/srv/cxr/inbox"]
    assert SERVICES["receiver"]["command"][-2:] == ["--caller", "${CXR_CALLER:-}"]


def test_the_services_have_the_settings_of_prefect_toml() -> None:
    settings = tomllib.loads((PROJECT / "prefect.toml").read_text())
    values = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": settings["server"]["analytics_enabled"],
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": settings["server"]["ephemeral"]["startup_timeout_seconds"],
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": settings["flows"]["heartbeat_frequency"],
    }
    assert {name: str(value).lower() for name, value in values.items()}.items() <= PREFECT_DEFAULTS.items()
