import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from cxr.endpoint.listener import listen
from cxr.endpoint.waiting import wait_for_champion
from cxr.errors import PackageError
from tests.support.endpoint import client_of
from tests.support.processes import BIN, wait_for

TOKEN = "0123456789abcdef-XYZ"  # noqa: S105 the tests' own


def test_without_a_champion_the_endpoint_says_so_to_those_who_may_ask_and_goes_on_once_there_is_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr.endpoint.waiting.LOOKS_EVERY_S", 0.05)
    caplog.set_level(logging.INFO)
    listener, has_champion = listen("127.0.0.1", 0, TOKEN), threading.Event()
    thread = threading.Thread(target=wait_for_champion, args=(listener, has_champion.is_set, "there is none yet."))
    thread.start()
    with listener.socket, client_of(listener.address) as stranger:
        try:
            assert stranger.get("/health").json() == {"status": "no model"}
            assert stranger.post("/predict", content=b"image").status_code == 401
            refused = stranger.post("/predict", content=b"image", headers={"Authorization": f"Bearer {TOKEN}"})
            assert (refused.status_code, refused.json()) == (503, {"detail": "there is none yet."})
            assert int(refused.headers["retry-after"]) > 0
        finally:
            has_champion.set()
            thread.join(timeout=20)
        assert not thread.is_alive()
        assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1, "it still listens"
    lines = [record.getMessage() for record in caplog.records if record.name == "cxr.endpoint.guard"]
    assert [re.findall(r'"status": (\d+)', line) for line in lines] == [["200"], ["401"], ["503"]]


def test_what_is_wrong_with_the_champion_ends_the_wait() -> None:
    def look() -> bool:
        raise PackageError("the file that names it is damaged.")

    listener = listen("127.0.0.1", 0)
    with listener.socket, pytest.raises(PackageError, match="damaged"):
        wait_for_champion(listener, look, "there is none yet.")


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_waits_for_its_first_champion_answers_with_it_and_ends_at_a_signal(
    number: signal.Signals, home: Path, images: list[bytes], tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    options = [f"--models={models}", f"--cache={tmp_path / 'cache'}", "--port=0", "--device=cpu", "--compile=off"]
    command = [str(BIN / "cxr"), "serve", "--name=tiny", "--wait", *options]
    environment = {name: value for name, value in os.environ.items() if name != "CXR_TOKEN"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        (address,) = re.findall(r"http://\S+", process.stdout.readline())
        assert process.stdout.readline() == "model    none yet: tiny has no champion\n"
        with client_of(address) as client:
            assert client.get("/health").json() == {"status": "no model"}
            detail = client.post("/predict", content=images[0]).json()["detail"]
            assert detail == "model tiny has no champion yet: `cxr package RUN --name tiny --promote` makes one."
            if number == signal.SIGTERM:
                shutil.copytree(home / "models" / "tiny", models / "coming")
                (models / "coming").rename(models / "tiny")
                wait_for(lambda: client.get("/health").json() == {"status": "ok"}, "the champion")
                headers = {"Content-Type": "image/jpeg"}
                assert client.post("/predict", content=images[0], headers=headers).status_code == 200
        process.send_signal(number)
        assert process.wait(timeout=60) == {signal.SIGTERM: -signal.SIGTERM, signal.SIGINT: 130}[number]
