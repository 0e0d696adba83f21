"""The library: what `import cxr` offers, and that its numbers are the command line's."""

import doctest
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cxr
from cxr.errors import CxrError
from cxr.images.synthetic import draw_examples, draw_images
from tests.support.shared import NewFolder

NAMES = [
    "CxrError",
    "Execution",
    "PredictionColumns",
    "Predictor",
    "ScoreConfig",
    "TrainConfig",
    "__version__",
    "appraise",
    "compare",
    "cross_validate",
    "load_champion",
    "load_package",
    "load_run",
]
OF_THE_SCORING_RUN = ["batch", "path", "scored_at", "changed_ns", "n_bytes"]


@pytest.fixture(scope="module")
def workspace(home: Path, new_folder: NewFolder) -> Path:
    """A folder as the examples expect it: two runs, a model `pneumonia`, a data set, an image and a text file."""
    place = new_folder("workspace")
    for run in ("first", "second"):
        shutil.copytree(
            home / "experiments" / "run", place / "experiments" / run, ignore=shutil.ignore_patterns("folds")
        )
    shutil.copytree(home / "models" / "tiny", place / "models" / "pneumonia", copy_function=os.link)
    rename_package(place / "models" / "pneumonia" / "1", "pneumonia")
    draw_images(place / "chest_xray", n_images=40, seed=3)
    (place / "image.jpeg").write_bytes(next(iter(draw_examples().values())))
    (place / "notes.txt").write_text("no image")
    predictions = pd.read_parquet(place / "experiments" / "first" / "metrics" / "predictions.parquet")
    outputs = ["probability_NORMAL", "probability_PNEUMONIA"]
    table = predictions[["path", "label", *outputs]].assign(patient=predictions["group_id"])
    table.to_csv(place / "predictions.csv", index=False)
    return place


def rename_package(folder: Path, name: str) -> None:
    from cxr.storage.files import sha256_of

    description = folder / "package.json"
    facts = json.loads(description.read_text()) | {"name": name}
    before = sha256_of(description)
    description.unlink()  # a hard link: the original stays as it is
    description.write_text(json.dumps(facts))
    sums = (folder / "SHA256SUMS").read_text()
    (folder / "SHA256SUMS").unlink()
    (folder / "SHA256SUMS").write_text(sums.replace(before, sha256_of(description)))


@pytest.fixture(scope="module")
def predictor(home: Path) -> cxr.Predictor:
    return cxr.Predictor(cxr.load_champion(home / "models", "tiny"), device="cpu", cache=home / "cache")


def documented() -> list[tuple[str, object]]:
    """The exported functions and classes, and the methods of those classes that are not private."""
    things = [(name, getattr(cxr, name)) for name in NAMES if name != "__version__"]
    methods = inspect.getmembers(cxr.Predictor, inspect.isfunction)
    return things + [(f"Predictor.{name}", method) for name, method in methods if not name.startswith("_")]


def test_the_exported_names_are_these() -> None:
    assert sorted(cxr.__all__) == NAMES
    assert set(NAMES) <= set(dir(cxr))
    with pytest.raises(AttributeError, match="has no attribute 'predict'"):
        _ = cxr.predict


def test_importing_cxr_loads_nothing_that_takes_time() -> None:
    code = "import sys, cxr; print(*(name for name in sys.modules if name.partition('.')[0] in sys.argv[1:]))"
    heavy = ["torch", "numpy", "pandas", "prefect", "pyarrow", "PIL", "great_expectations", "cyclopts"]
    result = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_reading_a_run_loads_no_torch(home: Path) -> None:
    code = "import sys, cxr; cxr.load_run(sys.argv[1]).summary(); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(home / "experiments" / "run")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(("name", "thing"), documented(), ids=[name for name, _ in documented()])
def test_every_exported_name_has_an_example_that_runs(
    name: str, thing: object, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(thing) or "", {"cxr": cxr, "np": np}, name, None, 0)
    assert examples.examples
    complaints: list[str] = []
    doctest.DocTestRunner().run(examples, out=complaints.append)
    assert complaints == []


@pytest.mark.parametrize("name", [name for name, thing in documented() if inspect.isfunction(thing)])
def test_every_function_says_what_it_takes_and_raises(name: str) -> None:
    function = dict(documented())[name]
    text = inspect.getdoc(function) or ""
    parameters = [p for p in inspect.signature(function).parameters if p != "self"]
    assert all(f"    {parameter}: " in text for parameter in parameters)
    assert "Raises:" in text


def test_files_get_the_numbers_and_the_columns_of_the_scores(scored: Path, predictor: cxr.Predictor) -> None:
    published = pd.read_parquet(scored).sort_values("path", ignore_index=True)
    paths = [scored.parent / "inbox" / row.batch / row.path for row in published.itertuples()]
    table = predictor.predict_files(paths)
    assert list(table.columns) == list(published.columns)
    assert table.loc[table["status"] == "ok", "unlike_training"].notna().all()
    assert table["path"].tolist() == [str(path) for path in paths]
    assert table["batch"].isna().all()
    assert {"ok", "quarantined"} == set(table["status"])
    same = [name for name in table.columns if name not in OF_THE_SCORING_RUN]
    pd.testing.assert_frame_equal(table[same], published[same], rtol=1e-5, atol=1e-6)


def test_files_that_cannot_be_read_are_rows_with_a_reason(predictor: cxr.Predictor, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    table = predictor.predict_files(str(tmp_path / name) for name in ("empty.png", "link.png", "pipe", "."))
    assert table["reason"].tolist() == ["empty", "unreadable", "not_a_file", "not_a_file"]
    assert table["detail"].notna().all()
    assert table["probability_PNEUMONIA"].isna().all()


def test_no_files_are_an_empty_table_with_the_same_columns(predictor: cxr.Predictor) -> None:
    none = predictor.predict_files([])
    assert none.empty
    assert list(none.columns) == list(predictor.predict_files(["nowhere"]).columns)


@pytest.mark.parametrize(
    ("pixels", "kind"),
    [
        (lambda levels: levels.astype(np.uint8), "L"),
        (lambda levels: (levels * 16).astype(np.uint16), "I;16"),
        (lambda levels: (levels * 16).astype(">u2"), "I;16"),
    ],
    ids=["uint8", "uint16", "uint16, big end first"],
)
def test_an_array_gets_the_numbers_of_the_png_file_with_its_pixels(
    pixels: Callable[[np.ndarray], np.ndarray], kind: str, predictor: cxr.Predictor, tmp_path: Path
) -> None:
    array = pixels(smooth())
    image = Image.fromarray(array.astype(array.dtype.newbyteorder("=")))
    assert image.mode == kind
    image.save(tmp_path / "image.png")
    rows = predictor.predict_arrays([array]), predictor.predict_files([tmp_path / "image.png"])
    same = [name for name in rows[0].columns if name not in [*OF_THE_SCORING_RUN, "image_id"]]
    pd.testing.assert_frame_equal(rows[0][same], rows[1][same], check_exact=True)
    assert rows[0]["image_id"].isna().all()


def test_an_array_of_floats_means_the_same_at_any_scale(predictor: cxr.Predictor) -> None:
    levels = smooth()
    rows = predictor.predict_arrays([levels, levels / 255, levels.astype(np.float32) * 40 - 1000])
    assert rows["probability_PNEUMONIA"].tolist() == pytest.approx([rows["probability_PNEUMONIA"][0]] * 3, abs=1e-5)
    eight_bits = predictor.predict_arrays([levels.round().astype(np.uint8)])
    assert rows["probability_PNEUMONIA"][0] == pytest.approx(eight_bits["probability_PNEUMONIA"][0], abs=0.01)


def smooth() -> np.ndarray:
    """Grey levels from 0 to 255 with a bright field, shape (90, 70), as floats."""
    y, x = np.mgrid[0:90, 0:70]
    levels = np.exp(-((y - 40) ** 2 + (x - 20) ** 2) / 800.0)
    return 255 * (levels - levels.min()) / (levels.max() - levels.min())


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((40, 40, 3), np.uint8), "array 1 has shape (40, 40, 3)"),
        (np.zeros((0, 40)), "array 1 has shape (0, 40)"),
        (np.zeros((40, 40), np.int32), "array 1 has type int32"),
        (np.full((40, 40), np.nan), "array 1 has values that are not finite"),
    ],
)
def test_an_array_that_is_no_grey_image_is_an_error(array: np.ndarray, sentence: str, predictor: cxr.Predictor) -> None:
    with pytest.raises(CxrError) as error:
        predictor.predict_arrays([smooth(), array])
    assert sentence in str(error.value)


def test_an_array_that_is_too_small_is_a_row_with_a_reason(predictor: cxr.Predictor) -> None:
    assert predictor.predict_arrays([smooth()[:31]])["reason"].tolist() == ["too_small"]


def test_a_run_gives_its_tables_and_its_facts(home: Path) -> None:
    folder = home / "experiments" / "run"
    run = cxr.load_run(str(folder))
    assert run.config.size == 64
    assert run.facts == json.loads((folder / "config.json").read_text())
    for method, file in (("predictions", "predictions"), ("metrics", "metrics"), ("summary", "summary")):
        expected = pd.read_parquet(folder / "metrics" / f"{file}.parquet")
        pd.testing.assert_frame_equal(getattr(run, method)(), expected)
    pd.testing.assert_frame_equal(run.table("folds"), pd.read_parquet(folder / "folds.parquet"))
    with pytest.raises(CxrError, match=r"run 'run' has no table 'nothing'; it has .*folds.*predictions"):
        run.table("nothing")


def test_what_is_not_there_is_told_in_a_sentence(home: Path, tmp_path: Path) -> None:
    with pytest.raises(CxrError, match=r"no run in .*: give the path of a run's folder"):
        cxr.load_run(tmp_path)
    with pytest.raises(CxrError, match="no model in"):
        cxr.load_package(tmp_path)
    with pytest.raises(CxrError, match="has no champion"):
        cxr.load_champion(home / "models", "unknown")
    with pytest.raises(CxrError, match="two or more different runs"):
        cxr.compare([cxr.load_run(home / "experiments" / "run")])


def test_the_version_is_that_of_the_citation_and_the_changelog() -> None:
    project = Path(cxr.__file__).parents[1]
    assert f"\nversion: {cxr.__version__}\n" in (project / "CITATION.cff").read_text()
    assert f"\n## {cxr.__version__} - " in (project / "CHANGELOG.md").read_text()
