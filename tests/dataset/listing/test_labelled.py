"""Collections as people hold them: what a user types, and which images have which labels in the end."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from cxr.config import DataConfig, Execution, ScoreConfig, TrainConfig
from cxr.dataset.examination import examine
from cxr.dataset.listing.labelled import list_data_set
from cxr.dataset.listing.layout import count_kinds
from cxr.errors import ConfigError, CxrError, DataError, FoldError, RunError
from cxr.export.build import make_package
from cxr.images.source import open_source
from cxr.pipeline import score_inbox
from cxr.serving import registry
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run, require_startable
from cxr.training.run import load_run
from cxr.training.trainer import train_fold
from flows.cli import app
from tests.support.collections import MINIATURES, write
from tests.support.runs import SMALL, finish_run
from tests.support.shared import NewFolder

WITHOUT, MASK, VIEW, UNKNOWN, TABLE, OTHER = (
    "image without a label",
    "mask or annotation",
    "image of another view",
    "image of which the label is unknown",
    "table of labels",
    "other file",
)


@dataclass(frozen=True)
class Expected:
    """What a user types beside --data and --describe, and gets."""

    labels: dict[str, int]
    """Images of each class."""
    words: tuple[str, ...] = ()
    n_patients: int = 0
    """Patients that are known."""
    aside: dict[str, int] = field(default_factory=dict)
    splits: set[str] = field(default_factory=set)


PNEUMONIA = ("--positive=Pneumonia",)
CASES = {
    "nih": Expected(
        {"Pneumonia": 12, "not Pneumonia": 12},
        (*PNEUMONIA, "--split-list=test=test_list.txt"),
        12,
        {TABLE: 1, OTHER: 2},
        {"test"},
    ),
    "rsna": Expected({"Lung Opacity": 12, "No Lung Opacity": 12}, aside={WITHOUT: 3, TABLE: 1, OTHER: 1}),
    "chexpert": Expected(
        {"Pneumonia": 5, "not Pneumonia": 6},
        (*PNEUMONIA, "--uncertain=mask", "--blank=negative"),
        11,
        {VIEW: 12, UNKNOWN: 1, TABLE: 2},
        {"train", "val"},
    ),
    "mimic": Expected(
        {"Pneumonia": 6, "not Pneumonia": 3},
        (*PNEUMONIA, "--blank=mask"),
        9,
        {VIEW: 12, UNKNOWN: 3, WITHOUT: 2, TABLE: 3},
        {"train", "val"},
    ),
    "vindr": Expected(
        {"Pneumonia": 12, "not Pneumonia": 12}, (*PNEUMONIA, "--rows=majority"), 0, {TABLE: 2}, {"train", "test"}
    ),
    "shenzhen": Expected({"NORMAL": 12, "TUBERCULOSIS": 12}, (), 24, {MASK: 24, OTHER: 24}),
    "montgomery": Expected({"NORMAL": 12, "TUBERCULOSIS": 12}, (), 24, {MASK: 48}),
    "padchest": Expected({"pneumonia": 12, "not pneumonia": 12}, ("--positive=pneumonia",), 12, {TABLE: 1}),
    "covidx": Expected({"normal": 12, "pneumonia": 12, "COVID-19": 12}, (), 18, {TABLE: 2}, {"train", "test"}),
    "kermany": Expected({"NORMAL": 12, "PNEUMONIA": 12}, (), 12, {WITHOUT: 3}, {"train", "test"}),
    "cohen": Expected(
        {"COVID-19": 6, "not COVID-19": 18}, ("--positive=COVID-19",), 12, {MASK: 1, VIEW: 1, UNKNOWN: 1, TABLE: 1}
    ),
    "tbx11k": Expected({"health": 12, "sick": 12, "tb": 12}, (), 0, {WITHOUT: 3, OTHER: 1}),
    "covid19": Expected(
        {"COVID": 8, "Lung_Opacity": 8, "Normal": 8, "Viral Pneumonia": 8}, (), 0, {MASK: 32, OTHER: 4}
    ),
    "huggingface": Expected({"NORMAL": 12, "PNEUMONIA": 12}, (), 0, {TABLE: 2}, {"train", "test"}),
}


@pytest.fixture(scope="module")
def collection(new_folder: NewFolder) -> Callable[[str], Path]:
    """Return the folder of a miniature, made once: collection("nih")."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = MINIATURES[name](new_folder(name))
        return made[name]

    return make


def config_of(verb: str, *words: str) -> DataConfig:
    """Return the config that a command line stands for."""
    _, bound, _ = app.parse_args([verb, *words], exit_on_error=False, print_error=False)
    return bound.arguments["config"]


def typed(data: Path, name: str, *words: str) -> DataConfig:
    return config_of("validate", f"--data={data}", f"--describe={name}", "--folds=2", *words)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_collection_is_read_as_it_comes(name: str, collection: Callable[[str], Path], tmp_path: Path) -> None:
    expected = CASES[name]
    config = typed(collection(name), name, *expected.words)
    folder = RunFolder.named(tmp_path, "run")
    examine(config, folder, cache=tmp_path / "cache")
    data, manifest = files.read_json(folder.data), files.read_table(folder.manifest)
    assert manifest["label"].value_counts().to_dict() == expected.labels
    assert set(manifest["status"]) == {"used"}
    assert data["no_folds_because"] is None
    assert data["left_aside"] == expected.aside
    assert set(manifest["split"].dropna()) == expected.splits
    if name != "rsna":  # whose PatientID is the name of the image
        assert manifest["patient_id"].nunique() == expected.n_patients
    certificate = files.read_json(folder.certificate)
    assert (certificate["n_images"], certificate["patient_ids_crossing_folds"]) == (len(manifest), 0)
    folds = files.read_table(folder.folds).merge(manifest[["path", "patient_id"]], on="path")
    assert folds.groupby("patient_id")["fold"].nunique().max() in (1, float("nan")) or not expected.n_patients


@pytest.mark.parametrize("name", ["nih", "mimic", "huggingface", "kermany"])
def test_a_zip_gives_the_labels_of_its_folder(name: str, collection: Callable[[str], Path], tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / name), "zip", collection(name)))
    found = []
    for data in (collection(name), archive):
        config = typed(data, name, *CASES[name].words)
        listing, resolved = list_data_set(open_source(config.data), config, tmp_path / "cache")
        assert resolved is not None
        found.append((listing.images, count_kinds(listing.left_aside), resolved.sha256))
    assert found[0] == found[1]


ASKED = {
    "chexpert": (PNEUMONIA, r"column 'Pneumonia' holds -1.0 \(1 rows\): say what it means with --uncertain"),
    "mimic": (PNEUMONIA, r"column 'Pneumonia' is blank in 3 of 12 rows: say what that means with --blank"),
    "vindr": (PNEUMONIA, r"rows that disagree \(Pneumonia 1, 0, 1\)"),
    "nih": ((), r"images have not exactly one label, such as .* with 2 findings \(Edema, Pneumonia\): give --positive"),
}


@pytest.mark.parametrize("name", sorted(ASKED))
def test_what_a_collection_leaves_open_is_asked_for(
    name: str, collection: Callable[[str], Path], tmp_path: Path
) -> None:
    words, sentence = ASKED[name]
    config = typed(collection(name), name, *words)
    with pytest.raises(CxrError, match=sentence):
        list_data_set(open_source(config.data), config, tmp_path)


@pytest.mark.parametrize("place", ["annotations/00000001_000.png", "images_001/images/00000001_000.tif"])
def test_a_row_that_names_a_file_that_is_left_aside_is_not_called_one_without_a_file(
    place: str, collection: Callable[[str], Path], tmp_path: Path
) -> None:
    data = Path(shutil.copytree(collection("nih"), tmp_path / "nih"))
    (data / place).parent.mkdir(exist_ok=True)
    image = (data / "images_001" / "images" / "00000001_000.png").rename(data / place)
    if image.suffix == ".tif":
        image.write_bytes(b"II*\0" + bytes(100))
    config = typed(data, "nih", *CASES["nih"].words)
    with pytest.raises(DataError, match=r"1 of 24 rows name no image that is read, such as '00000001_000.png': a file"):
        list_data_set(open_source(config.data), config, tmp_path)


def test_nothing_is_read_or_written_where_a_table_contradicts_the_data(
    collection: Callable[[str], Path], tmp_path: Path
) -> None:
    config = typed(collection("rsna"), "rsna", "--patient-column=patientId")
    with pytest.raises(DataError, match="every patient id stands on one image: is 'patientId' the id of an image"):
        examine(config, RunFolder.named(tmp_path, "run"), cache=tmp_path / "cache")
    assert not (tmp_path / "cache" / "vitals").exists()
    assert not RunFolder.named(tmp_path, "run").manifest.exists()


@pytest.mark.parametrize(
    ("words", "kind", "sentence"),
    [
        (("--patient-column=Patient Id",), ConfigError, "column 'Patient Id' is not in t.csv; nearest: 'Patient ID'"),
        (
            ("--folds=5", "--patient-column=Patient ID", "--positive=y"),
            FoldError,
            "'x' has images of 3 patients, fewer than 5 folds",
        ),
        (("--positive=z",), ConfigError, "--positive must name one of the classes 'x' and 'y', got 'z'"),
        ((), ConfigError, "--positive must name one of the classes"),
        (("--value=label:y=X", "--positive=x"), DataError, "the labels 'X' and 'x' differ only in letter case"),
    ],
)
def test_a_mistake_is_one_sentence(words: tuple[str, ...], kind: type[CxrError], sentence: str, tmp_path: Path) -> None:
    for k in range(12):
        write(tmp_path / "data" / f"i{k}.png", k)
    rows = [f"i{k}.png,{'xy'[k % 2]},{k // 4 if k % 2 == 0 else k}" for k in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label,Patient ID", *rows]))
    config = config_of("validate", f"--data={tmp_path / 'data'}", f"--labels={tmp_path / 't.csv'}", *words)
    with pytest.raises(kind, match=re.escape(sentence)):
        examine(config, RunFolder.named(tmp_path, "run"), cache=tmp_path / "cache")


def train_config(collection: Callable[[str], Path], name: str, weights: str) -> TrainConfig:
    small = SMALL | {"weights": weights, "trainable": "head"}
    options = [f"--{key.replace('_', '-')}={value}" for key, value in small.items()]
    config = config_of("train", f"--data={collection(name)}", f"--describe={name}", *options, *CASES[name].words)
    assert isinstance(config, TrainConfig)
    return config


@pytest.fixture(scope="module")
def champion(collection: Callable[[str], Path], weights_file: str, new_folder: NewFolder) -> ModelFolder:
    """A model of pneumonia, made of a run whose report has subgroups by sex and age."""
    place = new_folder("champion")
    run = finish_run(place, "run", train_config(collection, "nih", weights_file))
    found = files.read_table(run.folder.table("subgroups")).groupby("subgroup")["level"].unique()
    assert sorted(found["Patient Gender"]) == ["F", "M"]
    assert list(found["Patient Age"]) == ["18 to 39", "40 to 59", "60 to 79"]
    model = ModelFolder.named(place / "models", "pneumonia")
    registry.promote(model, make_package(run, model).version)
    return model


@pytest.fixture(scope="module")
def scores(collection: Callable[[str], Path], champion: ModelFolder, new_folder: NewFolder) -> pd.DataFrame:
    """The rows of a scoring run with each collection as a batch."""
    place = new_folder("scores")
    for name in CASES:
        shutil.copytree(collection(name), place / "inbox" / name)
    places = {"models": champion.path.parent, "out": place / "scores", "cache": place / "cache"}
    score_inbox(place / "inbox", ScoreConfig(name="pneumonia", **places, settle=0, device="cpu"), lambda *_: [])
    return pd.read_parquet(place / "scores")


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_collection_is_trained_on_in_two_folds_and_scored(
    name: str, collection: Callable[[str], Path], scores: pd.DataFrame, weights_file: str, tmp_path: Path
) -> None:
    config, folder = train_config(collection, name, weights_file), RunFolder.named(tmp_path, "run")
    examine(config, folder, cache=tmp_path / "cache", size=config.size)
    run = begin_run(config, folder, Execution(cache=tmp_path / "cache", devices="cpu"))
    for fold in range(2):
        train_fold(run, fold, "cpu")
    predictions = pd.concat(files.read_table(folder.fold(fold).predictions) for fold in range(2))
    assert predictions["label"].value_counts().to_dict() == CASES[name].labels
    assert predictions[run.outputs.probability_columns].notna().all(axis=None)
    assert len(files.read_json(folder.data)["labels"]["tables"]) == CASES[name].aside.get(TABLE, 0)
    published = scores.query("batch == @name and status == 'ok'")
    assert set(run.images()["image_id"]) <= set(published["image_id"])


def test_a_run_resumes_with_the_same_tables_wherever_they_lie_and_with_no_others(
    collection: Callable[[str], Path], tmp_path: Path
) -> None:
    data = Path(shutil.copytree(collection("nih"), tmp_path / "nih"))
    folder = RunFolder.named(tmp_path / "experiments", "run")
    execution = Execution(cache=tmp_path / "cache", devices="cpu")

    def config(table: Path) -> TrainConfig:
        return TrainConfig(data=str(data), describe="nih", labels=(str(table),), positive="Pneumonia", **SMALL)

    first = config(data / "Data_Entry_2017.csv")
    examine(first, folder, cache=tmp_path / "cache", size=32)
    begun = begin_run(first, folder, execution)
    assert load_run(folder).config == begun.config
    moved = config(Path(shutil.copy(data / "Data_Entry_2017.csv", tmp_path / "moved.csv")))
    require_startable(moved, folder, execution)
    examine(moved, folder, cache=tmp_path / "cache", size=32)
    text = (tmp_path / "moved.csv").read_text()
    (tmp_path / "moved.csv").write_text(text.replace(",M,PA", ",F,PA", 1))
    with pytest.raises(RunError, match="was begun with other images"):
        examine(moved, folder, cache=tmp_path / "cache", size=32)


def test_findings_of_a_table_are_those_of_the_manifest_and_no_patient_crosses(tmp_path: Path) -> None:
    data = MINIATURES["nih"](tmp_path / "data")
    words = {"describe": "nih", "task": "multi", "folds": 2, "split_list": ("test=test_list.txt",), "holdout": "test"}
    folder = RunFolder(tmp_path / "run")
    examine(DataConfig(data=str(data), **words), folder, cache=tmp_path / "cache")
    manifest = files.read_table(folder.manifest).set_index("path")
    entry = pd.read_csv(data / "Data_Entry_2017.csv").set_index("Image Index")["Finding Labels"].str.split("|")
    for path, row in manifest.iterrows():
        stated = entry[str(path).rpartition("/")[2]]
        assert bool(row["finding_Pneumonia"]) == ("Pneumonia" in stated)
        assert bool(row["finding_Edema"]) == ("Edema" in stated)
    folds = files.read_table(folder.folds).merge(manifest.reset_index()[["path", "patient_id"]], on="path")
    assert folds.groupby("patient_id")["fold"].nunique().max() == 1
    assert set(manifest["patient_from"]) == {"table"}
    assert set(folds["path"]) == set(manifest.index[manifest["split"] != "test"])
