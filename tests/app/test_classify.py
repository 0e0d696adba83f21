import numpy as np

from app import uploads
from app.server import Folders
from cxr.images.synthetic import draw_examples
from cxr.serving.registry import load_champion
from tests.app.support import opened, texts


def test_images_are_scored_and_a_file_that_is_none_gets_a_sentence(folders: Folders) -> None:
    view = opened("classify", folders)
    image = draw_examples(seed=9)["one dense patch"]
    dropped = [("scan_*1*.png", image, "image/png"), ("letter.jpeg", b"Dear colleague", "image/jpeg")]
    view.file_uploader[0].set_value(dropped).run()
    assert not view.exception
    assert [error.value for error in view.error] == [
        r"letter\.jpeg was not scored (not an image\: no JPEG, PNG or DICOM header)."
    ]
    model = uploads.load_model(folders.models, "tiny", "1", folders.cache)
    (held, _) = view.session_state["images"].values()
    assert held.prediction is not None
    shown = texts(view)
    assert f"**{held.prediction.probability['PNEUMONIA']:.1%}**" in shown
    assert f"the threshold of {model.package.threshold:.1%} (Youden)" in shown
    assert view.header[0].value == held.prediction.predicted
    view.pills[0].set_value(["healthy lungs"]).run()
    assert len(view.session_state["images"]) == 3
    assert view.session_state["images"][next(iter(view.session_state["images"]))] is held, "it is not scored again"
    view.file_uploader[0].clear().run()
    names = [image.name for image in view.session_state["images"].values()]
    assert names == ["synthetic: healthy lungs"], "nothing is kept"


def test_the_operating_point_changes_the_predicted_class_and_not_the_probability(folders: Folders) -> None:
    view = opened("classify", folders)
    view.pills[0].set_value(["healthy lungs", "one dense patch"]).run()
    package = load_champion(folders.models, "tiny")
    images = view.session_state["images"].values()
    probability = [image.prediction.probability["PNEUMONIA"] for image in images]
    for point, threshold in package.thresholds.items():
        view.segmented_control[0].set_value(point).run()
        table = view.dataframe[0].value
        assert table["predicted"].tolist() == [package.classes[int(p >= threshold)] for p in probability]
        np.testing.assert_allclose(table["probability, %"], np.multiply(probability, 100))


def test_no_more_than_a_hundred_files_are_read(folders: Folders) -> None:
    view = opened("classify", folders)
    view.file_uploader[0].set_value([(f"{k}.txt", b"%d" % k, "text/plain") for k in range(101)]).run()
    assert "first 100 of 101 files" in view.warning[0].value
    assert len(view.session_state["images"]) == 100
    assert len(view.error) == 11
    assert view.error[-1].value == "90 more files were not scored; the tables to download say why."
