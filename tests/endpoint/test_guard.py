import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cxr.serving.package import Package
from tests.endpoint.conftest import Form
from tests.support.endpoint import Served, client_of, served
from tests.support.processes import wait_for

TOKEN = "0123456789abcdef-XYZ"  # noqa: S105 the tests' own
NAME = "Mustermann"
LOG = "cxr.endpoint.guard"


def logged(caplog: pytest.LogCaptureFixture, n_lines: int) -> list[dict[str, Any]]:
    """The lines of the log, once there are as many: a line is written after its answer."""

    def records() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name == LOG]

    wait_for(lambda: len(records()) == n_lines, f"{n_lines} lines of the log", timeout_s=20)
    return [json.loads(record.getMessage()) for record in records()]


@pytest.fixture(scope="module")
def secret(package: Package, home: Path) -> Iterator[Served]:
    """An endpoint that needs a token, with a client that sends it."""
    with served(package, home / "cache", token=TOKEN) as endpoint:
        yield endpoint


@pytest.fixture
def stranger(secret: Served) -> Iterator[httpx.Client]:
    """A client that has no token."""
    with client_of(str(secret.client.base_url)) as client:
        yield client


def test_with_a_token_every_path_needs_it_but_health(
    secret: Served, stranger: httpx.Client, images: list[bytes]
) -> None:
    for method, path in [
        ("POST", "/predict"),
        ("POST", "/explain"),
        ("GET", "/models"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/nowhere"),
    ]:
        for given in ("", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \u00e9"):
            answer = stranger.request(method, path, headers={"Authorization": given.encode("latin-1")})
            assert answer.status_code == 401, (path, given)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["detail"].startswith("send the header `Authorization: Bearer TOKEN`")
    assert stranger.get("/health").json() == {"status": "ok"}
    assert secret.client.get("/models").status_code == 200
    headers = {"Content-Type": "image/jpeg", "Host": "cxr.hospital.example"}
    assert secret.client.post("/predict", content=images[0], headers=headers).status_code == 200


def test_the_description_says_whether_a_token_is_needed(secret: Served, endpoint: Served) -> None:
    document = secret.client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
    assert document["security"] == [{"token": []}]
    assert document["paths"]["/health"]["get"]["security"] == []
    assert "security" not in endpoint.client.get("/openapi.json").json()


def test_without_a_token_no_foreign_host_name_is_answered(endpoint: Served) -> None:
    answer = endpoint.client.get("/health", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("this endpoint answers to 127.0.0.1 and localhost alone")
    assert endpoint.client.get("/health", headers={"Host": "localhost:1234"}).status_code == 200


def test_a_line_of_the_log_tells_of_each_request_and_holds_no_name(
    endpoint: Served, images: list[bytes], form: Callable[..., Form], caplog: pytest.LogCaptureFixture
) -> None:
    for logger in ("httpx", "httpcore"):  # the client's own
        caplog.set_level(logging.CRITICAL, logger)
    caplog.set_level(logging.DEBUG)
    files = form("images", **{f"{NAME}.jpeg": images[0], f"{NAME}.txt": NAME.encode()})
    answer = endpoint.client.post(f"/predict?patient={NAME}", files=files)
    assert [image["path"] for image in answer.json()["images"]] == [f"{NAME}.jpeg", f"{NAME}.txt"]
    endpoint.client.post(f"/explain?class={NAME}", files=form("image", **{NAME: images[0]}))
    endpoint.client.post("/predict", files=form(NAME, a=images[0]))
    endpoint.client.get(f"/{NAME}.jpeg")
    endpoint.client.request("MUSTERMANN", "/predict")
    endpoint.client.get("/health", headers={"Host": NAME})
    lines = logged(caplog, 6)
    assert NAME.lower() not in caplog.text.lower()
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/predict", 200),
        ("POST", "/explain", 422),
        ("POST", "/predict", 400),
        ("GET", "other", 404),
        ("other", "/predict", 405),
        ("GET", "/health", 400),
    ]
    assert lines[0] | {"at": "", "ms": 0} == {
        "at": "",
        "method": "POST",
        "path": "/predict",
        "ms": 0,
        "status": 200,
        "n_files": 2,
        "refused": {"other_file": 1},
    }


def test_a_failure_of_the_program_is_status_500_and_the_log_says_where_without_its_words(
    package: Package, home: Path, images: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOG)
    with served(package, home / "cache") as endpoint:
        endpoint.service.close()  # its threads take nothing any more
        answer = endpoint.client.post("/predict", content=images[0], headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 500
        assert answer.json() == {"detail": "the endpoint failed; its log says where."}
        assert endpoint.client.get("/health").status_code == 200
    failed = logged(caplog, 2)[0]
    assert failed["failure"].startswith("RuntimeError at thread.py:")
    assert "cannot schedule" not in caplog.text
