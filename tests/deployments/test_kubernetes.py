"""The files for Kubernetes against each other, compose.yaml and the code that they start; no cluster is needed.

Where kubernetes-validate is installed, the manifests are also held against the schemas of Kubernetes.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prefect.utilities.templating import apply_values, find_placeholders

from app.server import ADDRESS
from benchmarks.orchestrator import REDIS
from deployments.services import CPU_POOL, GPU_POOL, PAGE_PORT, PREFECT_DEFAULTS
from tests.support.commands import assert_are_settings, assert_is_understood
from tests.support.processes import PROJECT

KUBERNETES = PROJECT / "deployments" / "kubernetes"
MANIFESTS = {one["kind"]: one for one in yaml.safe_load_all((KUBERNETES / "cxr.yaml").read_text())}
TEMPLATES = {device: json.loads((KUBERNETES / f"job-template-{device}.json").read_text()) for device in ("cpu", "gpu")}
WORKER = yaml.safe_load((KUBERNETES / "worker-values.yaml").read_text())["worker"]
SERVER = yaml.safe_load((KUBERNETES / "server-values.yaml").read_text())
PAGE = (PROJECT / "docs" / "how-to" / "kubernetes.md").read_text()
SCHEMAS_OF = "1.33"


def job(device: str) -> dict[str, Any]:
    """Return the job that Prefect makes of a template with its defaults."""
    template = TEMPLATES[device]
    values = {
        name: field["default"] for name, field in template["variables"]["properties"].items() if "default" in field
    }
    values |= {"name": "run", "command": ["prefect", "flow-run", "execute"], "env": [{"name": "A", "value": "b"}]}
    return apply_values(template["job_configuration"]["job_manifest"], values)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["template"]["spec"]


def pods() -> Iterator[dict[str, Any]]:
    yield from (pod_of(job(device)) for device in TEMPLATES)
    yield from (pod_of(MANIFESTS[kind]) for kind in ("Job", "Deployment"))


def containers() -> Iterator[dict[str, Any]]:
    for pod in pods():
        yield from pod.get("initContainers", [])
        yield from pod["containers"]


@pytest.mark.parametrize("device", TEMPLATES)
def test_a_job_template_uses_each_of_its_variables_and_no_other(device: str) -> None:
    used = {placeholder.name for placeholder in find_placeholders(TEMPLATES[device]["job_configuration"])}
    assert used == set(TEMPLATES[device]["variables"]["properties"])


@pytest.mark.parametrize("device", TEMPLATES)
def test_a_job_has_the_image_and_the_folders_of_the_worker_of_compose(device: str) -> None:
    (container,) = pod_of(job(device))["containers"]
    worker = yaml.safe_load((PROJECT / "deployments" / "compose.yaml").read_text())["services"][f"worker-{device}"]
    assert container["image"] == worker["image"]
    mounts = {
        (mount["subPath"], mount["mountPath"], mount.get("readOnly", False)) for mount in container["volumeMounts"][1:]
    }
    of_compose = [re.fullmatch(r"\$\{[^}]*\}/(\w+):([^:]+)(:ro)?", text) for text in worker["volumes"]]
    assert mounts == {(mount[1], mount[2], bool(mount[3])) for mount in of_compose if mount}


def test_the_job_for_a_gpu_is_that_for_a_cpu_with_another_image_and_a_gpu() -> None:
    other = job("gpu")
    (container,) = pod_of(other)["containers"]
    assert container["resources"]["limits"].pop("nvidia.com/gpu") == 1
    container["image"] = "cxr:cpu"
    assert other == job("cpu")


def test_a_container_has_no_more_rights_than_it_needs() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 1000
        assert pod["automountServiceAccountToken"] is False
    for container in containers():
        own = container["securityContext"]
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_a_container_mounts_volumes_of_its_pod_and_the_claim_that_is_there() -> None:
    claim = MANIFESTS["PersistentVolumeClaim"]["metadata"]["name"]
    for pod in pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["cxr"]["persistentVolumeClaim"]["claimName"] == claim
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)


def test_the_folders_are_made_before_anything_mounts_them() -> None:
    (making,) = pod_of(MANIFESTS["Job"])["initContainers"]
    made = {word.removeprefix("/volume/") for word in making["args"] if word.startswith("/volume/")}
    mounted = {
        mount["subPath"] for container in containers() for mount in container["volumeMounts"] if "subPath" in mount
    }
    assert made == mounted


def test_the_job_and_the_page_start_programs_of_the_project() -> None:
    (deploy,), (page,) = (pod_of(MANIFESTS[kind])["containers"] for kind in ("Job", "Deployment"))
    for container in (deploy, page):
        assert_is_understood(*container["args"])
    assert_is_understood(*SERVER["server"]["command"], *SERVER["server"]["args"])
    for probe in (page["startupProbe"], page["livenessProbe"]):
        assert f"http://{ADDRESS}:{PAGE_PORT}/_stcore/health" in probe["exec"]["command"][-1]
    assert f"kubectl port-forward deployment/cxr-page {PAGE_PORT}" in PAGE


def test_server_worker_and_job_agree_on_addresses_settings_and_secrets() -> None:
    (deploy,) = pod_of(MANIFESTS["Job"])["containers"]
    of_deploy = {entry["name"]: entry for entry in deploy["env"]}
    of_server = {entry["name"]: entry.get("value") for entry in SERVER["server"]["env"]}
    of_worker = {entry["name"]: entry.get("value") for entry in WORKER["extraEnvVars"]}
    assert_are_settings([*of_deploy, *of_server, *of_worker])
    assert REDIS.items() <= of_server.items()
    assert of_worker == {name: PREFECT_DEFAULTS[name] for name in of_worker}
    assert of_deploy["PREFECT_API_URL"]["value"] == WORKER["selfHostedServerApiConfig"]["apiUrl"]
    files = "".join(path.read_text() for path in KUBERNETES.glob("*.yaml"))
    keys = set(re.findall(r"(?:\bkey|SecretKey): ([\w-]+)", files)) | {"auth-string"}
    assert set(re.findall(r"--from-literal=([\w-]+)=", PAGE)) == keys
    assert set(re.findall(r"(?:existingSecret|secretKeyRef: \{name): ([\w-]+)", files)) == {"cxr-prefect"}
    assert "create secret generic cxr-prefect" in PAGE


def test_the_pools_are_of_the_version_and_the_names_of_the_deployments() -> None:
    lock = (PROJECT / "requirements.lock").read_text()
    (version,) = re.findall(r"^prefect==(\S+)", lock, re.MULTILINE)
    assert WORKER["image"]["prefectTag"] == f"{version}-python3.11-kubernetes"
    (devices,) = re.findall(r"for pool in ([\w ]+); do", PAGE)
    assert devices.split() == list(TEMPLATES)
    assert "worker.config.workPool=cxr-$pool" in PAGE
    assert {f"cxr-{device}" for device in TEMPLATES} == {CPU_POOL, GPU_POOL}
    named = {
        name for device in TEMPLATES for name in re.findall(r"kubernetes/([\w.-]+)", PAGE.replace("$pool", device))
    }
    assert named == {path.name for path in KUBERNETES.iterdir()}


@pytest.mark.parametrize("device", TEMPLATES)
def test_a_job_follows_the_schemas_of_kubernetes(device: str) -> None:
    validation = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    manifest = job(device)
    for ignored in ("completions", "parallelism"):  # Prefect's worker refuses a template without them, in this place
        del pod_of(manifest)[ignored]
    validation.validate(manifest, SCHEMAS_OF, strict=True)


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_follows_the_schemas_of_kubernetes(kind: str) -> None:
    validation = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    validation.validate(MANIFESTS[kind], SCHEMAS_OF, strict=True)
