"""Each view of the page, run by Streamlit's AppTest without a browser."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from streamlit.testing.v1 import AppTest

from app import server, uploads, words
from app.server import Folders
from cxr.classes import Classes
from cxr.errors import ConfigError
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.images.synthetic import draw_examples
from cxr.serving.registry import load_champion
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest puts the view's script in place of `__main__`, which later tests' child processes would run."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def run_view(module: str, places: object) -> None:
    """What AppTest runs as a script: it sees nothing of this file."""
    import importlib

    importlib.import_module(f"app.{module}").show(places)


def opened(module: str, places: Folders) -> AppTest:
    view = AppTest.from_function(run_view, kwargs={"module": module, "places": places}, default_timeout=120).run()
    assert not view.exception
    return view


def texts(view: AppTest) -> str:
    kinds = [view.title, view.header, view.subheader, view.markdown, view.caption, view.info, view.warning, view.error]
    return "\n".join(str(element.value) for kind in kinds for element in kind)


@pytest.fixture(scope="session")
def places(home: Path, scored: Path) -> Folders:
    return Folders(home / "experiments", home / "models", scored, home / "cache")


@pytest.mark.parametrize("module", ["classify", "runs", "scoring_runs", "models"])
def test_a_view_without_anything_to_show_says_what_to_do_first(module: str, tmp_path: Path) -> None:
    view = opened(module, Folders(*(tmp_path / name for name in ("experiments", "models", "scores", "cache"))))
    assert "`cxr demo`" in view.info[0].value
    assert not list(tmp_path.iterdir())


def test_images_are_judged_and_what_is_none_gets_a_sentence(places: Folders) -> None:
    view = opened("classify", places)
    image = draw_examples(seed=9)["one dense patch"]
    dropped = [("scan_*1*.png", image, "image/png"), ("letter.jpeg", b"Dear colleague", "image/jpeg")]
    view.file_uploader[0].set_value(dropped).run()
    assert not view.exception
    assert [error.value for error in view.error] == [
        r"letter\.jpeg is not judged, not an image\: no JPEG, PNG or DICOM header."
    ]
    model = uploads.load_model(places.models, "tiny", "1", places.cache)
    (held, _) = view.session_state["images"].values()
    assert held.prediction is not None
    shown = texts(view)
    assert f"**{held.prediction.probability['PNEUMONIA']:.1%}**" in shown
    assert f"the threshold of {model.package.threshold:.1%} (Youden)" in shown
    assert view.header[0].value == held.prediction.predicted
    view.pills[0].set_value(["healthy lungs"]).run()
    assert len(view.session_state["images"]) == 3
    assert view.session_state["images"][next(iter(view.session_state["images"]))] is held, "it is not judged again"
    view.file_uploader[0].clear().run()
    assert [one.name for one in view.session_state["images"].values()] == ["drawn: healthy lungs"], "nothing is kept"


def test_the_operating_point_moves_the_call_and_not_the_probability(places: Folders) -> None:
    view = opened("classify", places)
    view.pills[0].set_value(["healthy lungs", "one dense patch"]).run()
    package = load_champion(places.models, "tiny")
    probability = [f.prediction.probability["PNEUMONIA"] for f in view.session_state["images"].values()]
    for point, threshold in package.thresholds.items():
        view.segmented_control[0].set_value(point).run()
        table = view.dataframe[0].value
        assert table["predicted"].tolist() == [package.classes[int(p >= threshold)] for p in probability]
        np.testing.assert_allclose(table["probability, %"], np.multiply(probability, 100))


def test_what_speaks_against_a_judgement_is_said(places: Folders, sample: Path) -> None:
    model = uploads.load_model(places.models, "tiny", "1", places.cache)
    noise = np.random.default_rng(0).integers(0, 255, (90, 900), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    known = next((sample / "train" / "NORMAL").glob("*.jpeg")).read_bytes()
    held = [
        uploads.read(model.package, "noise.png", stream.getvalue()),
        uploads.read(model.package, "known.jpeg", known),
    ]
    uploads.predict(model, held)
    strange, remembered = (words.cautions(f.reading, f.prediction, model.reference) for f in held if f.prediction)
    assert any("may be no chest image" in sentence for sentence in strange)
    assert any("in width, height" in sentence and "It drifts" in sentence for sentence in strange)
    assert any("made from this very image" in sentence for sentence in remembered)


def test_downloads_hold_the_rows_of_the_nightly_table(places: Folders) -> None:
    model = uploads.load_model(places.models, "tiny", "1", places.cache)
    held = [
        uploads.read(model.package, "a", draw_examples()["healthy lungs"]),
        uploads.read(model.package, "b", b"no image"),
    ]
    uploads.predict(model, held)
    rows = uploads.table(model, held)
    part = next(places.scores.glob("[!_]*/*.parquet"))
    read_back = pd.read_parquet(io.BytesIO(uploads.as_parquet(rows)))
    assert read_back.dtypes.to_dict() == pd.read_parquet(part).dtypes.to_dict()
    told = json.loads(uploads.as_json(rows, words.DISCLAIMER))
    assert told["note"] == words.DISCLAIMER
    assert [image["reason"] for image in told["images"]] == [None, "not_an_image"]
    assert told["images"][0]["width"] == held[0].reading.width
    assert told["images"][0]["probability_NORMAL"] == held[0].prediction.probability["NORMAL"]
    heat = uploads.look(model, held[0], "PNEUMONIA")
    picture = Image.open(io.BytesIO(uploads.as_png(held[0], heat, 0.5)))
    assert picture.width / picture.height == pytest.approx(2 * held[0].grey.shape[1] / held[0].grey.shape[0])


def test_a_run_shows_its_metrics_and_every_section(places: Folders) -> None:
    view = opened("runs", places)
    summary = files.read_table(RunFolder.named(places.experiments, "run").summary).set_index("metric")
    shown = view.table[0].value
    row = summary.loc["roc_auc"] * 100
    interval = f"{row['pooled']:.1f} [{row['ci_low']:.1f}, {row['ci_high']:.1f}]"
    assert shown.loc["ROC-AUC", "pooled [95 %]"] == interval
    for section in ("Curves", "Folds and subgroups", "Training", "Compare"):
        view.segmented_control[0].set_value(section).run()
        assert not view.exception, section
    assert "no other run" in view.info[0].value


@pytest.mark.parametrize("threshold", [0.0, 0.355, 1.0])
def test_the_threshold_moves_the_matrix_to_what_scikit_learn_gives(places: Folders, threshold: float) -> None:
    view = opened("runs", places)
    view.segmented_control[0].set_value("Threshold").run()
    view.slider[0].set_value(threshold).run()
    folder = RunFolder.named(places.experiments, "run")
    run = OutOfFold(files.read_table(folder.predictions), Classes(files.read_record(folder.config)["classes"]))
    truth, predicted = run.target, (run.calibrated[:, 1] >= threshold).astype(int)
    expected = confusion_matrix(truth, predicted, labels=[1, 0])
    assert view.table[0].value.to_numpy().tolist() == expected.tolist()
    told = {metric.label: metric.value for metric in view.metric}
    assert told["Sensitivity"] == f"{100 * recall_score(truth, predicted):.1f} %"
    assert told["Specificity"] == f"{100 * recall_score(truth, predicted, pos_label=0):.1f} %"
    for name, positive in (("PPV", 1), ("NPV", 0)):
        value = precision_score(truth, predicted, pos_label=positive, zero_division=np.nan)
        assert told[name] == ("– %" if np.isnan(value) else f"{100 * value:.1f} %")


def test_runs_are_compared_and_an_unfinished_one_says_so(places: Folders, tmp_path: Path) -> None:
    for name in ("one", "other", "third"):
        shutil.copytree(places.experiments / "run", tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    load_run(RunFolder(tmp_path / "third")).forget_fold(1)
    view = opened("runs", Folders(tmp_path, places.models, places.scores, places.cache))
    view.selectbox[0].set_value("one").run()
    view.segmented_control[0].set_value("Compare").run()
    view.selectbox[1].set_value("other").run()
    assert not view.exception
    difference = view.table[0].value["difference, points [95 %]"]
    assert set(difference) == {"0.0 [0.0, 0.0]"}
    view.selectbox[0].set_value("third").run()
    assert "Run third is not finished: 1 of 2 folds are." in view.info[0].value


def test_scoring_runs_show_counts_reasons_and_images_worth_a_second_look(places: Folders) -> None:
    view = opened("scoring_runs", places)
    told = {metric.label: metric.value for metric in view.metric}
    assert (told["Images scored"], told["Quarantined"]) == ("6", "6")
    tables = [frame.value for frame in view.dataframe]
    assert tables[0][["batch", "state", "images", "quarantined"]].to_numpy().tolist() == [["ward-3", "published", 6, 6]]
    quarantined = next(table for table in tables if list(table.columns) == ["path", "reason", "detail"])
    assert set(quarantined["reason"]) == {
        "blank",
        "truncated",
        "empty",
        "not_an_image",
        "colour_photograph",
        "unsupported_format",
    }
    assert "Worth a second look: nearest to the threshold" in texts(view)
    assert len(tables[-1]) == 12


def test_models_show_the_champion_its_history_and_card(places: Folders) -> None:
    view = opened("models", places)
    assert view.selectbox[1].options == ["1, champion"]
    assert view.dataframe[1].value["why"].tolist() == ["the first champion"]
    assert "Trained on the images described here" in texts(view)
    assert "license:" not in texts(view), "metadata is for machines"
    hashes = re.findall(r"data, SHA-256 \| `(.*)`", texts(view))
    assert [re.sub("[0-9a-f]", "", one) for one in hashes] == ["…"], "a whole one is wider than a narrow screen"
    assert len(hashes[0]) == 13


@pytest.mark.parametrize(
    "name",
    ["<img src=x onerror=alert(1)>.png", "![x](http://evil.example/x.png)", "$x^2$ :red[a] `b` ~c~", "a\u202eb\n"],
)
def test_foreign_text_is_shown_letter_by_letter(name: str) -> None:
    html = MarkdownIt().render(words.plain(name))
    assert "<img" not in html
    assert "<a" not in html
    assert "<code" not in html
    assert "\u202e" not in html


def test_the_command_passes_on_the_folders_and_asks_for_the_loopback_address(tmp_path: Path) -> None:
    places = Folders(tmp_path / "e=1", tmp_path / "m", tmp_path / "s", tmp_path / "c")
    address, command = server.prepare(places, 0)
    assert address.startswith("http://127.0.0.1:")
    assert {"--server.address=127.0.0.1", "--browser.gatherUsageStats=false"} <= set(command)
    assert Folders.of(command[command.index("--") + 1 :]) == places


def test_what_the_page_needs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"the page needs streamlit, which is not here: install cxr with .* \[page\]"):
        server.prepare(Folders(), 0)


def test_the_page_needs_no_prefect_and_no_great_expectations() -> None:
    code = "import sys; sys.modules['prefect'] = sys.modules['great_expectations'] = None\n"
    code += "import app.classify, app.runs, app.scoring_runs, app.models, app.server"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
