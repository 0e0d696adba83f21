"""The wheel in a fresh environment, with the libraries that it asks for: the application in an unrelated folder.

The libraries are those of requirements.lock, from uv's cache, where `make setup` leaves them; the network is not asked.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cxr
from cxr.images.synthetic import draw_inbox
from cxr.storage import files
from cxr.training.provenance import code_provenance
from deployments.processes import marked
from tests.support.processes import PROJECT, somebody_elses_packages, wait_for
from tests.support.runs import PARAMETERS
from tests.support.servers import free_port, is_healthy
from tests.support.shared import NewFolder
from tests.support.wheel import build_wheel

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def programs(new_folder: NewFolder) -> Path:
    """The folder of the programs of an environment in which `cxr[page,dicom]` was installed."""
    uv = shutil.which("uv") or str(PROJECT / ".uv" / "bin" / "uv")
    if not Path(uv).exists():
        pytest.skip("no uv, which `make setup` brings")
    environment = new_folder("fresh") / "environment"
    subprocess.run([uv, "venv", "--quiet", "--offline", "--python", sys.executable, environment], check=True)
    wanted = f"cxr[page,dicom] @ {build_wheel(new_folder('wheel')).as_uri()}"
    words = ["--quiet", "--offline", "--python", environment, "--constraints", PROJECT / "requirements.lock", wanted]
    installed = subprocess.run([uv, "pip", "install", *words], capture_output=True, text=True, check=False)
    if "network was disabled" in installed.stderr.lower():
        pytest.skip("uv's cache lacks the libraries")
    assert installed.returncode == 0, installed.stderr
    return environment / "bin"


class Folder:
    """An unrelated folder in which commands are typed; somebody else's packages lie in it, and on PYTHONPATH."""

    def __init__(self, path: Path, programs: Path) -> None:
        self.path, self.programs = path, programs
        self.port, self.page_port, self.endpoint_port = free_port(), free_port(), free_port()
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PYTHONPATH"))}
        hostile = somebody_elses_packages(path).partition(os.pathsep)[0]
        self.environment = ours | {"PYTHONPATH": hostile, "PREFECT_WORKER_QUERY_SECONDS": "1"}
        shutil.copytree(hostile, path, dirs_exist_ok=True)

    def type(self, program: str, *words: str, server: bool = True) -> str:
        """Type a command, which has to succeed; return what it prints."""
        address = {"PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api"} if server else {}
        ended = subprocess.run(
            [self.programs / program, *words],
            cwd=self.path,
            env=self.environment | address,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{program} {' '.join(words)}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def cxr(self, *words: str, server: bool = True) -> str:
        """Type `cxr`."""
        return self.type("cxr", *words, server=server)


@pytest.fixture
def folder(tmp_path: Path, programs: Path) -> Iterator[Folder]:
    """An unrelated folder, in which nothing is left running."""
    folder = Folder(tmp_path / "work", programs)
    try:
        yield folder
    finally:
        folder.cxr("down", server=False)


def test_every_verb_works_in_an_unrelated_folder_amid_somebody_elses_packages(folder: Folder) -> None:
    ports = [f"--page-port={folder.page_port}", f"--endpoint-port={folder.endpoint_port}"]
    started = folder.cxr("up", f"--port={folder.port}", *ports, server=False)
    assert f"page started: http://127.0.0.1:{folder.page_port}" in started
    assert "pools and deployments are ready" in folder.cxr("deploy")

    folder.cxr("sample", "chest_xray", "--images=80", "--seed=1")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in (PARAMETERS | {"epochs": 2}).items()]
    folder.cxr("train", "--data=chest_xray", "--run-id=run", *options)
    folder.cxr("package", "run", "--name=pneumonia", "--promote")
    code = files.read_json(folder.path / "experiments" / "run" / "config.json")["code"]
    assert code["cxr_source_sha256"] == code_provenance()["cxr_source_sha256"]
    assert f"cxr=={cxr.__version__}" in code["distributions"]

    draw_inbox(folder.path / "inbox", n_images=6, seed=2)
    folder.cxr("score", "inbox", "--name=pneumonia", "--settle=0", "--force", "--out=scores-by-hand")
    folder.type(
        "prefect", "deployment", "run", "score-batch/nightly", "--param=settle=0", "--param=force=true", "--watch"
    )
    assert list((folder.path / "scores" / "ward-3").glob("*.parquet"))
    wait_for(lambda: is_healthy(f"http://127.0.0.1:{folder.page_port}/_stcore/health"), "the page")
    assert "Completed  score-batch" in folder.cxr("status")

    stopped = folder.cxr("down", server=False)
    assert all(f"{name} stopped\n" in stopped for name in ("worker-cxr-cpu", "page", "endpoint", "server"))
    assert not marked(folder.path / "services")
    assert (folder.path / ".prefect" / "prefect.db").exists()


def test_nothing_but_cxr_is_in_site_packages(programs: Path) -> None:
    (record,) = programs.parent.glob("lib/python*/site-packages/cxr-*.dist-info/RECORD")
    names = {line.partition(",")[0] for line in record.read_text().splitlines()}
    assert {name.partition("/")[0] for name in names} == {"cxr", record.parent.name, ".."}
    assert {name for name in names if name.startswith("..")} == {"../../../bin/cxr"}
