import base64
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from app import words
from app.classify import uploads
from app.classify.loading import LoadedModel
from app.classify.uploads import Upload
from app.gallery import PICTURE_PX
from app.server import Folders
from cxr.images.synthetic import draw_examples
from cxr.wording import DISCLAIMER
from tests.support.images import make_dicom


@pytest.fixture
def images(model: LoadedModel) -> list[Upload]:
    """An image that is scored and a file that is none."""
    brought = [
        uploads.read(model.package, "a", draw_examples()["healthy lungs"]),
        uploads.read(model.package, "b", b"no image"),
    ]
    uploads.predict(model, brought)
    return brought


def test_downloads_hold_the_rows_of_the_scores(folders: Folders, model: LoadedModel, images: list[Upload]) -> None:
    rows = uploads.table(model, images)
    part = next(folders.scores.glob("[!_]*/*.parquet"))
    read_back = pd.read_parquet(io.BytesIO(uploads.as_parquet(rows)))
    assert read_back.dtypes.to_dict() == pd.read_parquet(part).dtypes.to_dict()
    record = json.loads(uploads.as_json(rows, DISCLAIMER))
    assert record["note"] == DISCLAIMER
    assert [image["reason"] for image in record["images"]] == [None, "other_file"]
    assert record["images"][0]["width"] == images[0].reading.width
    assert images[0].prediction is not None
    assert record["images"][0]["probability_NORMAL"] == images[0].prediction.probability["NORMAL"]


def test_the_picture_is_the_image_twice_side_by_side(model: LoadedModel, images: list[Upload]) -> None:
    image, _ = images
    heat = uploads.look(model, image, "PNEUMONIA")
    assert heat.shape == (model.package.size, model.package.size)
    assert uploads.look(model, image, "PNEUMONIA") is heat, "it is computed once"
    picture = Image.open(io.BytesIO(uploads.as_png(image, heat, 0.5)))
    height, width = image.grey.shape
    assert picture.width / picture.height == pytest.approx(2 * width / height)


def test_only_new_images_are_scored_and_progress_is_reported(model: LoadedModel, images: list[Upload]) -> None:
    before = images[0].prediction
    more = [uploads.read(model.package, name, data) for name, data in draw_examples(seed=3).items()]
    reported: list[int] = []
    uploads.predict(model, [*images, *more], reported.append)
    assert images[0].prediction is before
    assert reported == [3]
    assert not any(image.is_new for image in (*images, *more))


def test_what_speaks_against_a_prediction_is_found(model: LoadedModel, sample: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 900), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    known = next((sample / "train" / "NORMAL").glob("*.jpeg")).read_bytes()
    brought = [
        uploads.read(model.package, "noise.png", stream.getvalue()),
        uploads.read(model.package, "known.jpeg", known),
    ]
    uploads.predict(model, brought)
    strange, remembered = (
        words.cautions(image.reading, image.prediction, model.reference) for image in brought if image.prediction
    )
    assert any("unlike the images that the model was trained on" in sentence for sentence in strange)
    assert any(sentence.startswith("In width, height") for sentence in strange)
    assert any("made from this image" in sentence for sentence in remembered)


def test_the_body_part_of_a_dicom_file_is_read(model: LoadedModel) -> None:
    stated = [
        make_dicom(BodyPartExamined="HAND"),
        make_dicom(BodyPartExamined="CHEST"),
        draw_examples()["healthy lungs"],
    ]
    assert [uploads.read(model.package, "a", data).body_part for data in stated] == ["HAND", None, None]


def test_the_picture_of_a_card_is_small(model: LoadedModel) -> None:
    picture = uploads.read(model.package, "a", draw_examples(seed=0)["healthy lungs"]).picture  # which is larger
    data = base64.b64decode(picture.removeprefix("data:image/jpeg;base64,"))
    assert max(Image.open(io.BytesIO(data)).size) == PICTURE_PX
