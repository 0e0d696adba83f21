import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cxr.endpoint.service import Service
from cxr.errors import ConfigError
from cxr.serving.package import Package
from cxr.serving.predictor import Predictor
from tests.support.endpoint import Served, client_of
from tests.support.processes import BIN, wait_for
from tests.support.servers import free_port, is_healthy

JPEG = {"Content-Type": "image/jpeg"}
N_CLIENTS, N_REQUESTS = 8, 10


@contextmanager
def serving(home: Path, place: Path) -> Iterator[subprocess.Popen[str]]:
    """`cxr serve`, started in an empty folder."""
    places = [f"--models={home / 'models'}", f"--cache={place / 'cache'}"]
    command = [str(BIN / "cxr"), "serve", "--name=tiny", "--port=0", "--device=cpu", "--compile=off", *places]
    (place / "empty").mkdir(exist_ok=True)
    environment = os.environ | {"OMP_DISPLAY_ENV": "VERBOSE"}
    with subprocess.Popen(
        command, cwd=place / "empty", env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        if process.poll() is None:
            process.kill()


@pytest.fixture
def process(home: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with serving(home, tmp_path) as process:
        yield process


def address_of(process: subprocess.Popen[str]) -> str:
    """The address that the command prints once it answers."""
    assert process.stdout is not None
    first, second = process.stdout.readline(), process.stdout.readline()
    assert second == "model    tiny version 1\n"
    (address,) = re.findall(r"^endpoint (http://127\.0\.0\.1:\d+)  \(Ctrl-C ends it\)$", first)
    return address


@pytest.mark.faults
def test_killed_amid_its_answers_it_has_written_nothing_and_started_again_it_answers_the_same(
    process: subprocess.Popen[str], home: Path, images: list[bytes], tmp_path: Path
) -> None:
    files = [("images", (f"{number}.jpeg", images[number % 3], "image/jpeg")) for number in range(60)]

    def ask(address: str) -> list[float]:
        with client_of(address) as client:
            return [row["probability_PNEUMONIA"] for row in client.post("/predict", files=files).json()["images"]]

    def written() -> set[Path]:
        return {path for folder in (tmp_path, home / "models") for path in folder.rglob("*")}

    address = address_of(process)
    expected, before = ask(address), written()
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        answers = [pool.submit(ask, address) for _ in range(N_CLIENTS)]
        time.sleep(0.2)
        process.kill()
        failures = [answer.exception() for answer in answers]
    assert any(isinstance(failure, httpx.TransportError) for failure in failures), "it was killed amid an answer"
    assert written() == before
    with serving(home, tmp_path) as again:
        assert ask(address_of(again)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_the_command_answers_many_clients_at_once_loses_none_keeps_nothing_and_ends(
    number: signal.Signals, code: int, process: subprocess.Popen[str], images: list[bytes], tmp_path: Path
) -> None:
    address = address_of(process)

    def ask(client_number: int) -> list[float]:
        with client_of(address) as client:
            name = f"Mustermann-{client_number}.jpeg"
            files = [("images", (name, images[client_number % 3], "image/jpeg"))]
            answers = [client.post("/predict", files=files) for _ in range(N_REQUESTS)]
        assert [answer.status_code for answer in answers] == [200] * N_REQUESTS
        rows = [answer.json()["images"][0] for answer in answers]
        assert {row["path"] for row in rows} == {name}
        return [row["probability_PNEUMONIA"] for row in rows]

    with ThreadPoolExecutor(N_CLIENTS) as pool:
        probabilities = list(pool.map(ask, range(N_CLIENTS)))
    for number_of_client, values in enumerate(probabilities):
        assert values == pytest.approx([probabilities[number_of_client % 3][0]] * N_REQUESTS, abs=1e-6)
    with client_of(address) as client:
        text = client.get("/metrics").text
    assert f"cxr_images_total {N_CLIENTS * N_REQUESTS}.0" in text
    (n_batches,) = re.findall(r"cxr_batch_images_count (\d+)\.0", text)
    assert int(n_batches) < N_CLIENTS * N_REQUESTS, "requests share batches"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert len(lines) == N_CLIENTS * N_REQUESTS + 1
    assert "GOMP_SPINCOUNT = '3000'" in err, "a busy neighbour would slow each image a hundredfold"
    assert "Mustermann" not in out + err
    assert not list((tmp_path / "empty").iterdir())


def test_a_quiet_command_prints_nothing_and_takes_its_token_from_the_environment(
    home: Path, images: list[bytes], tmp_path: Path
) -> None:
    token, port = "0123456789abcdef", free_port()
    places = [f"--models={home / 'models'}", f"--cache={tmp_path}"]
    command = [str(BIN / "cxr"), "serve", "--name=tiny", f"--port={port}", "--device=cpu", "--quiet", *places]
    environment = os.environ | {"CXR_TOKEN": token}
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: process.poll() is not None or is_healthy(f"{address}/health"), "the endpoint")
        for headers, status in ((JPEG, 401), (JPEG | {"Authorization": f"Bearer {token}"}, 200)):
            with client_of(address) as client:
                assert client.post("/predict", content=images[0], headers=headers).status_code == status
        process.terminate()
        assert process.communicate(timeout=60) == ("", "")


def test_a_service_that_cannot_compute_as_asked_says_so_before_it_answers(package: Package, tmp_path: Path) -> None:
    service = Service(Predictor(package, device="cpu", precision="int8", cache=tmp_path))
    with pytest.raises(ConfigError, match="--precision int8 is not available for tiny"):
        service.warm_up()
    service.close()


def test_many_requests_leave_the_memory_as_it_was(endpoint: Served, images: list[bytes]) -> None:
    def resident_mib() -> float:
        (value,) = re.findall(r"^process_resident_memory_bytes (\S+)$", endpoint.client.get("/metrics").text, re.M)
        return float(value) / 2**20

    def ask(n: int) -> None:
        for k in range(n):
            assert endpoint.client.post("/predict", content=images[k % 3], headers=JPEG).status_code == 200

    ask(30)
    before = resident_mib()
    ask(60)
    assert resident_mib() - before < 32
