from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from app import words
from app.server import Folders
from cxr.images.synthetic import draw_examples
from tests.app.support import opened, pictures, texts

NAMES = ["healthy lungs", "one dense patch"]


@pytest.fixture
def view(folders: Folders) -> AppTest:
    view = opened("classify", folders)
    view.pills[-1].set_value(NAMES).run()
    assert not view.exception
    return view


def test_each_image_has_a_card_and_a_click_opens_it(view: AppTest) -> None:
    first, second = view.session_state["images"].values()
    assert view.subheader[0].value == "2 images"
    assert pictures(view)[:2] == [first.picture, second.picture]
    assert [button.label for button in view.button] == ["Look closer", "Look closer"]
    view.button[1].click().run()
    assert [button.label for button in view.button] == ["Look closer", "Close"]
    assert list(second.maps), "the map of the second image is shown"
    assert list(first.maps) == []
    view.button[1].click().run()
    assert [button.label for button in view.button] == ["Look closer", "Look closer"]
    assert not view.header


def test_a_card_has_what_speaks_against_its_image_in_place_of_a_class(view: AppTest) -> None:
    for image in view.session_state["images"].values():
        image.prediction = replace(image.prediction, unlike_training=True)
    view.run()
    first, second = view.session_state["images"].values()
    assert pictures(view) == [first.picture, second.picture]
    assert texts(view).count(f"**{words.UNLIKE_TRAINING}**") == 2
    cautions = [warning.value for warning in view.warning]
    assert sum("unlike the images that the model was trained on" in caution for caution in cautions) == 2
    assert len(cautions) == 2, "one box for each image"
    warning, picture = view.warning[0].type, view.image[0].type
    shown = [element.type for element in view.main if element.type in (warning, picture)]
    assert shown == [warning, picture] * 2, "the warning is above the picture"
    assert "PNEUMONIA:" not in texts(view)
    view.button[0].click().run()
    assert pictures(view)[:2] == [first.picture, first.picture], "the opened image is beside its card"


def test_many_images_have_several_pages(folders: Folders) -> None:
    view = opened("classify", folders)
    drawn = [data for seed in range(9) for data in draw_examples(seed).values()]
    view.file_uploader[0].set_value([(f"{k}.jpeg", data, "image/jpeg") for k, data in enumerate(drawn)]).run()
    assert len(view.button) == 24
    view.pagination[0].set_value(2).run()
    assert len(view.button) == 3
