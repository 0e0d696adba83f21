import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.classify import uploads
from app.classify.loading import load_model
from app.server import Folders
from cxr.export.build import make_package
from cxr.library import Predictor
from cxr.serving.package import Package, load_package
from cxr.serving.scoring.scores import column_types
from cxr.storage.files import sha256_of
from cxr.storage.model_folder import ModelFolder
from cxr.training.run import Run
from cxr.wording import DISCLAIMER
from tests.endpoint.conftest import Form
from tests.support.endpoint import Served, served
from tests.support.processes import PROJECT
from tests.support.shared import NewFolder

JPEG = {"Content-Type": "image/jpeg"}
PAGE = PROJECT / "docs" / "reference" / "endpoint.md"


@pytest.fixture(scope="module")
def document(endpoint: Served) -> dict[str, Any]:
    """What the endpoint says of itself."""
    return endpoint.client.get("/openapi.json").json()


def require_described(document: dict[str, Any], answer: httpx.Response) -> None:
    """Assert that an answer has a status, a media type and a content that the description has for its request."""
    operation = document["paths"][answer.request.url.path][answer.request.method.lower()]
    content = operation["responses"][str(answer.status_code)]["content"]
    described = content[answer.headers["content-type"].partition(";")[0]]
    if answer.headers["content-type"] == "application/json":
        jsonschema.validate(answer.json(), described["schema"])


def test_an_image_as_it_is_has_its_row_of_the_scores(
    endpoint: Served, document: dict[str, Any], package: Package, images: list[bytes]
) -> None:
    answer = endpoint.client.post("/predict", content=images[0], headers=JPEG)
    assert answer.status_code == 200
    require_described(document, answer)
    content = answer.json()
    assert (content["note"], content["model"], content["model_version"]) == (DISCLAIMER, "tiny", "1")
    (row,) = content["images"]
    assert list(row) == list(column_types(package.outputs))
    assert (row["path"], row["batch"], row["status"], row["reason"]) == ("0", None, "ok", None)
    assert row["n_bytes"] == len(images[0])
    assert pd.Timestamp(row["scored_at"]).tzinfo is not None
    assert sum(row[name] for name in package.outputs.probability_columns) == pytest.approx(1)


def test_each_file_of_a_form_has_its_row_in_the_order_of_the_form(
    endpoint: Served, document: dict[str, Any], images: list[bytes], form: Callable[..., Form]
) -> None:
    answer = endpoint.client.post("/predict", files=form("images", b=images[1], empty=b"", a=images[0]))
    require_described(document, answer)
    rows = answer.json()["images"]
    assert [(row["path"], row["status"], row["reason"]) for row in rows] == [
        ("b", "ok", None),
        ("empty", "quarantined", "empty"),
        ("a", "ok", None),
    ]
    assert {value for name, value in rows[1].items() if name.startswith(("probability_", "predicted_"))} == {None}


def test_a_file_has_one_probability_in_job_library_page_and_endpoint(
    endpoint: Served, package: Package, scored: Path, home: Path, form: Callable[..., Form]
) -> None:
    rows = pd.concat([pd.read_parquet(part) for part in scored.glob("[!_]*/*.parquet")])
    job = rows[rows["status"] == "ok"].set_index("path")
    files = {path.name: path for path in (scored.parent / "inbox").rglob("*.*") if path.name in job.index}
    assert len(files) == 6
    library = Predictor(package, device="cpu", cache=home / "cache").predict_files(files.values())
    folders = Folders(home / "experiments", home / "models", scored, home / "cache")
    model = load_model(folders.models, "tiny", "1", folders.cache)
    brought = [uploads.read(package, name, path.read_bytes()) for name, path in files.items()]
    uploads.predict(model, brought)
    page = json.loads(uploads.as_json(uploads.table(model, brought), DISCLAIMER))["images"]
    for (name, path), of_library, of_page in zip(files.items(), library.to_dict("records"), page, strict=True):
        answer = endpoint.client.post("/predict", files=form("images", **{name: path.read_bytes()}))
        (of_endpoint,) = answer.json()["images"]
        assert list(of_endpoint) == list(of_page)
        of_job = job.loc[name]
        for column in ("image_id", "predicted_label", "arithmetic", "in_training", "width"):
            assert of_endpoint[column] == of_job[column] == of_library[column] == of_page[column]
        for column in ("probability_PNEUMONIA", "probability_NORMAL", "fold_spread", "novelty", "mean"):
            values = [float(row[column]) for row in (of_job, of_library, of_page)]
            assert values == pytest.approx([of_endpoint[column]] * 3, abs=1e-6), column


def test_an_explanation_is_the_image_beside_its_map(
    endpoint: Served, document: dict[str, Any], images: list[bytes], form: Callable[..., Form]
) -> None:
    pictures = {}
    for query in ("", "?class=NORMAL", "?class=PNEUMONIA", "?class=PNEUMONIA&opacity=0"):
        answer = endpoint.client.post(f"/explain{query}", files=form("image", a=images[0]))
        assert answer.status_code == 200
        require_described(document, answer)
        pictures[query] = Image.open(io.BytesIO(answer.content))
    width, height = Image.open(io.BytesIO(images[0])).size
    assert {picture.format for picture in pictures.values()} == {"PNG"}
    assert pictures[""].width / pictures[""].height == pytest.approx(2 * width / height, rel=0.01)
    shown = {query: picture.tobytes() for query, picture in pictures.items()}
    assert shown["?class=NORMAL"] != shown["?class=PNEUMONIA"]
    assert shown[""] in (shown["?class=NORMAL"], shown["?class=PNEUMONIA"])
    bare = pictures["?class=PNEUMONIA&opacity=0"]
    half = bare.width // 2
    assert bare.crop((0, 0, half, bare.height)).tobytes() == bare.crop((half, 0, bare.width, bare.height)).tobytes()
    assert endpoint.client.post("/explain?class=NORMAL", content=images[0], headers=JPEG).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/explain?class=COVID", None, 422, "class must be one of NORMAL, PNEUMONIA."),
        ("/explain?opacity=2", None, 422, "opacity: Input should be less than or equal to 1."),
        ("/explain?opacity=nan", None, 422, "opacity: Input should be"),
        ("/explain", b"no image", 422, "a file cannot be used: other file: text"),
        ("/predict", b"", 400, "the request has no body: send an image."),
    ],
)
def test_what_cannot_be_answered_is_a_sentence(
    path: str,
    body: bytes | None,
    status: int,
    sentence: str,
    endpoint: Served,
    document: dict[str, Any],
    images: list[bytes],
) -> None:
    answer = endpoint.client.post(path, content=images[0] if body is None else body, headers=JPEG)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(sentence)
    require_described(document, answer)


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_an_image_of_more_pixels_than_are_read_is_refused(
    path: str, endpoint: Served, document: dict[str, Any]
) -> None:
    stream = io.BytesIO()
    Image.new("1", (11_000, 10_000)).save(stream, "PNG")
    answer = endpoint.client.post(path, content=stream.getvalue(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 413
    assert answer.json()["detail"] == ("a file cannot be used: too large: 11000×10000, at most 100,000,000 pixels")
    require_described(document, answer)


def test_too_many_images_and_the_wrong_media_type_are_refused(
    endpoint: Served, document: dict[str, Any], images: list[bytes], form: Callable[..., Form]
) -> None:
    many = endpoint.client.post("/predict", files=form("images", a=b"1", b=b"2", c=b"3", d=b"4"))
    two = endpoint.client.post("/explain", files=form("image", a=images[0], b=images[1]))
    other = endpoint.client.post("/predict", data={"image": "x"})
    assert [answer.status_code for answer in (many, two, other)] == [422, 422, 415]
    assert many.json()["detail"] == "the request has more than 3 images: send them in several."
    for answer in (many, two, other):
        require_described(document, answer)


def test_the_model_is_described(endpoint: Served, document: dict[str, Any], package: Package) -> None:
    answer = endpoint.client.get("/models")
    require_described(document, answer)
    (model,) = answer.json()["models"]
    assert (model["name"], model["version"], model["outputs"]) == ("tiny", "1", ["NORMAL", "PNEUMONIA"])
    assert model["sha256"] == sha256_of(package.folder.checksums)
    assert model["thresholds"][model["operating_point"]] == package.threshold
    assert model["has_findings"] is False


def test_a_path_or_a_method_that_does_not_exist_is_a_sentence(endpoint: Served) -> None:
    for path in ("/", "/predict/", "/docs", "/redoc"):
        answer = endpoint.client.get(path)
        assert answer.status_code == 404
        assert answer.json()["detail"] == "there is nothing at this path: GET /openapi.json lists the paths."
    answer = endpoint.client.get("/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["detail"].startswith("this path does not take this method")


def test_the_examples_of_the_description_keep_to_its_schemas(document: dict[str, Any]) -> None:
    contents = [
        content
        for operations in document["paths"].values()
        for operation in operations.values()
        for response in operation["responses"].values()
        for media_type, content in response.get("content", {}).items()
        if media_type == "application/json"
    ]
    assert len(contents) > 15
    for content in contents:
        jsonschema.validate(content["example"], content["schema"])


def test_the_reference_page_has_every_path_status_and_metric(endpoint: Served, document: dict[str, Any]) -> None:
    text = PAGE.read_text()
    rows = re.findall(r"^\| `(GET|POST) (/\S+)` \|", text, re.MULTILINE)
    paths = {(method, path) for path, methods in document["paths"].items() for method in map(str.upper, methods)}
    assert set(rows) == paths | {("GET", "/openapi.json")}
    statuses = {
        status
        for path in document["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
    }
    assert set(re.findall(r"^\| (\d{3}) \|", text, re.MULTILINE)) == statuses | {"404", "405", "500", "503"}
    metrics = endpoint.client.get("/metrics").text
    defined = set(re.findall(r"^# TYPE (cxr_\w+) ", metrics, re.MULTILINE))
    described = set(re.findall(r"^\| `(cxr_\w+)` \|", text, re.MULTILINE))
    assert described == {name for name in defined if not name.endswith("_created")}


part_begins = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
bodies = st.one_of(
    st.binary(max_size=200),
    st.lists(st.binary(max_size=50), max_size=4).map(
        lambda parts: b"".join(part_begins + part + b"\r\n" for part in parts) + b"--b--\r\n"
    ),
)
media_types = st.one_of(
    st.sampled_from(
        ["image/jpeg", "image/png", "application/dicom", "application/octet-stream", "multipart/form-data; boundary=b"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
)
queries = st.dictionaries(st.sampled_from(["class", "opacity", "x"]), st.text(max_size=10), max_size=3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["/predict", "/explain"]), body=bodies, media_type=media_types, query=queries)
def test_whatever_is_sent_the_answer_is_one_that_is_described(
    path: str, body: bytes, media_type: str, query: dict[str, str], endpoint: Served, document: dict[str, Any]
) -> None:
    answer = endpoint.client.post(path, content=body, params=query, headers={"Content-Type": media_type})
    require_described(document, answer)


def test_a_model_with_findings_answers_with_each_of_them(
    several: Run, images: list[bytes], new_folder: NewFolder
) -> None:
    model = ModelFolder.named(new_folder("models"), "findings")
    package = load_package(model.version(make_package(several, model).version))
    with served(package, new_folder("cache")) as endpoint:
        document = endpoint.client.get("/openapi.json").json()
        predicted = endpoint.client.post("/predict", content=images[0], headers=JPEG)
        (row,) = predicted.json()["images"]
        assert isinstance(row["called_bacteria"], bool)
        assert 0 <= row["probability_virus"] <= 1
        assert "predicted_label" not in row
        explained = endpoint.client.post("/explain?class=virus", content=images[0], headers=JPEG)
        by_default = endpoint.client.post("/explain", content=images[0], headers=JPEG)
        described = endpoint.client.get("/models")
        (facts,) = described.json()["models"]
        assert facts["has_findings"] is True
        assert set(facts["thresholds"]) == {"bacteria", "virus"}
        for answer in (predicted, explained, by_default, described):
            assert answer.status_code == 200
            require_described(document, answer)
        assert "cxr_drift_effect" in endpoint.client.get("/metrics").text
