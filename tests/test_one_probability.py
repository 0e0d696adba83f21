"""One image has one probability, to the last bit, whichever door it comes in by."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pynetdicom import AE
from streamlit.testing.v1 import AppTest

from app.server import Folders
from cxr.config import ScoreConfig
from cxr.images.synthetic import draw_examples
from cxr.pipeline import score_inbox
from cxr.serving.registry import load_champion
from flows.cli import app as cli
from tests.app.support import opened
from tests.support.dicom import DX, listening
from tests.support.endpoint import served
from tests.support.images import make_dicom

COLUMN = "probability_PNEUMONIA"


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A drawn image as JPEG, and of the same grey levels as PNG and as DICOM.

    A mark in it is black and another white, since the levels of a DICOM image are spread from the darkest to the
    brightest that occurs.
    """
    drawn = np.array(Image.open(io.BytesIO(draw_examples(seed=11)["one dense patch"])).convert("L"))
    drawn[:16, :16], drawn[:16, 16:32] = 0, 255
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(drawn).save(jpeg, "JPEG")
    grey = np.asarray(Image.open(jpeg))
    assert (grey.min(), grey.max()) == (0, 255)
    Image.fromarray(grey).save(png, "PNG")
    dicom = make_dicom(grey, WindowCenter=128, WindowWidth=256)
    return {"image.jpeg": jpeg.getvalue(), "image.png": png.getvalue(), "image.dcm": dicom}


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[httpx.Client]:
    with served(load_champion(home / "models", "tiny"), home / "cache") as endpoint:
        yield endpoint.client


def probability_in(scores: Path) -> float:
    (row,) = pd.read_parquet(scores).to_dict("records")
    assert row["status"] == "ok"
    return row[COLUMN]


def by_the_job(name: str, data: bytes, home: Path, tmp_path: Path) -> float:
    inbox, out = tmp_path / f"of-{name}", tmp_path / f"scores-of-{name}"
    (inbox / "ward").mkdir(parents=True)
    (inbox / "ward" / name).write_bytes(data)
    places = {"models": home / "models", "cache": home / "cache", "out": out}
    score_inbox(inbox, ScoreConfig(name="tiny", settle=0, device="cpu", **places), lambda *_: [])
    return probability_in(out)


def by_the_page(name: str, data: bytes, view: AppTest) -> float:
    view.file_uploader[0].set_value([(name, data, "application/octet-stream")]).run()
    assert not view.exception
    (held,) = view.session_state["images"].values()
    return held.prediction.probability["PNEUMONIA"]


def by_the_endpoint(data: bytes, client: httpx.Client) -> float:
    answer = client.post("/predict", files=[("images", ("image", data, "application/octet-stream"))])
    (row,) = answer.json()["images"]
    return row[COLUMN]


def by_the_dicom_network(data: bytes, home: Path, tmp_path: Path) -> float:
    """Send the image to a node as a modality does, and score what has arrived with `cxr score`."""
    inbox, out = tmp_path / "received", tmp_path / "scores-of-received"
    entity = AE("PACS")
    entity.add_requested_context(DX)
    with listening(inbox) as (_, port):
        association = entity.associate("127.0.0.1", port, ae_title="CXR")
        assert association.send_c_store(pydicom.dcmread(io.BytesIO(data))).Status == 0
        association.release()
    places = [f"--models={home / 'models'}", f"--cache={home / 'cache'}", f"--out={out}"]
    with pytest.raises(SystemExit) as ended:
        cli(["score", str(inbox), "--name=tiny", "--settle=0", "--force", "--device=cpu", *places])
    assert ended.value.code == 0
    return probability_in(out)


def test_an_image_has_one_probability_by_job_page_endpoint_and_dicom_network(
    files: dict[str, bytes], home: Path, client: httpx.Client, tmp_path: Path
) -> None:
    view = opened("classify", Folders(home / "experiments", home / "models", tmp_path / "scores", home / "cache"))
    found = {
        (name, door): probability
        for name, data in files.items()
        for door, probability in {
            "job": by_the_job(name, data, home, tmp_path),
            "page": by_the_page(name, data, view),
            "endpoint": by_the_endpoint(data, client),
        }.items()
    }
    found["image.dcm", "DICOM network"] = by_the_dicom_network(files["image.dcm"], home, tmp_path)
    assert len(found) == 10
    assert len(set(found.values())) == 1, found
    assert 0 < found["image.png", "job"] < 1
