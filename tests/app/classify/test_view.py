import numpy as np

from app.classify import loading
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
        "1 file was not scored:\n\n" + r"- letter\.jpeg: not an image\: no JPEG, PNG or DICOM header"
    ]
    model = loading.load_model(folders.models, "tiny", "1", folders.cache)
    (held, _) = view.session_state["images"].values()
    assert held.prediction is not None
    shown = texts(view)
    assert f"**{held.prediction.probability['PNEUMONIA']:.1%}**" in shown
    assert f"the threshold of {model.package.threshold:.1%} (best of both rates, Youden)" in shown
    assert view.header[0].value == held.prediction.predicted
    view.pills[-1].set_value(["healthy lungs"]).run()
    assert len(view.session_state["images"]) == 3
    assert view.session_state["images"][next(iter(view.session_state["images"]))] is held, "it is not scored again"
    view.file_uploader[0].clear().run()
    names = [image.name for image in view.session_state["images"].values()]
    assert names == ["synthetic: healthy lungs"], "nothing is kept"


def test_the_operating_point_changes_the_predicted_class_and_not_the_probability(folders: Folders) -> None:
    view = opened("classify", folders)
    view.pills[-1].set_value(["healthy lungs", "one dense patch"]).run()
    package = load_champion(folders.models, "tiny")
    images = view.session_state["images"].values()
    probability = np.array([image.prediction.probability["PNEUMONIA"] for image in images])
    for point, threshold in package.thresholds.items():
        view.pills[0].set_value(point).run()
        cards = [element.value for element in view.markdown][:4]
        predicted = [f"**{package.classes[int(p >= threshold)]}**" for p in probability]
        assert cards[::2] == predicted
        assert cards[1::2] == [f"PNEUMONIA: {p:.1%}" for p in probability]


def test_thresholds_have_plain_names(folders: Folders) -> None:
    package = load_champion(folders.models, "tiny")
    labels = opened("classify", folders).pills[0].options
    values = [f"{value:.1%}" for value in package.thresholds.values()]
    assert [label.rsplit(": ", 1)[1] for label in labels] == values
    assert labels[3].startswith("few missed, sensitivity ≥ 0.95: ")


def test_no_more_than_a_hundred_files_are_read_and_those_refused_are_one_list(folders: Folders) -> None:
    view = opened("classify", folders)
    view.file_uploader[0].set_value([(f"{k}.txt", b"%d" % k, "text/plain") for k in range(101)]).run()
    assert "first 100 of 101 files" in view.warning[0].value
    assert len(view.session_state["images"]) == 100
    (refused,) = (error.value for error in view.error)
    assert refused.startswith("100 files were not scored:")
    assert refused.count("\n- ") == 100
