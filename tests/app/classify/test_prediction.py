import re
from dataclasses import replace

from app.server import Folders
from tests.app.support import opened, texts
from tests.support.images import make_dicom


def test_an_image_is_shown_with_its_map_and_the_class_of_the_map_can_be_changed(folders: Folders) -> None:
    view = opened("classify", folders)
    view.pills[-1].set_value(["one dense patch"]).run()
    (image,) = view.session_state["images"].values()
    predicted = view.header[0].value
    assert list(image.maps) == [predicted]
    target = view.segmented_control[0]
    (other,) = set(target.options) - {predicted}
    target.set_value(other).run()
    assert not view.exception
    assert set(image.maps) == {predicted, other}
    assert view.header[0].value == predicted, "the class that is looked for is not the predicted one"


def test_a_download_is_named_by_the_content_of_the_image(folders: Folders) -> None:
    view = opened("classify", folders)
    view.pills[-1].set_value(["healthy lungs"]).run()
    (image,) = view.session_state["images"].values()
    from app.classify.prediction import _file_name

    assert re.fullmatch(r"cxr-[0-9a-f]{12}\.png", _file_name(image, "png"))
    assert _file_name(image, "png") == f"cxr-{image.reading.image_id[:12]}.png"
    assert "It does not show why" in texts(view)


def test_an_image_unlike_the_training_images_has_no_class_as_its_headline(folders: Folders) -> None:
    view = opened("classify", folders)
    view.pills[-1].set_value(["healthy lungs"]).run()
    (image,) = view.session_state["images"].values()
    image.prediction = replace(image.prediction, unlike_training=True)
    view.run()
    assert not view.exception
    assert view.header[0].value == "Unlike the training images"
    assert "unlike the images that the model was trained on" in view.warning[0].value
    (folded,) = view.expander
    assert folded.label == "What the model predicts all the same"
    assert f"**{image.prediction.probability['PNEUMONIA']:.1%}**" in folded.markdown[0].value


def test_a_referred_image_says_why_in_place_of_a_class(folders: Folders) -> None:
    view = opened("classify", folders)
    view.pills[-1].set_value(["healthy lungs"]).run()
    (image,) = view.session_state["images"].values()
    for fitting, why in (((), "neither class"), (("NORMAL", "PNEUMONIA"), "both classes, NORMAL and PNEUMONIA")):
        image.prediction = replace(image.prediction, fitting=fitting)
        view.run()
        assert not view.exception
        assert view.header[0].value == f"Refer: the image fits {why}"
    image.prediction = replace(image.prediction, fitting=("PNEUMONIA",))
    view.run()
    assert view.header[0].value == image.prediction.predicted, "the class at the threshold that the visitor chose"


def test_a_dicom_file_of_another_body_part_is_no_chest_image(folders: Folders) -> None:
    view = opened("classify", folders)
    view.file_uploader[0].set_value([("hand.dcm", make_dicom(BodyPartExamined="HAND"), "application/dicom")]).run()
    assert not view.exception
    assert view.header[0].value == "Not a chest image"
    assert view.warning[0].value.startswith("The header of this DICOM file states the body part HAND.")
    assert len(view.expander) == 1
