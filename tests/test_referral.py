"""Referral from a run to the answers: the same one through job, library, page and endpoint."""

import dataclasses
import shutil
from pathlib import Path

import pandas as pd
import pytest

from app.classify import uploads
from app.classify.loading import load_model
from cxr.classes import Classes
from cxr.cli.app import app
from cxr.config import ScoreConfig
from cxr.errors import ConfigError, PackageError
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.referral import referral_rates
from cxr.export.build import make_package
from cxr.export.referral import require_level
from cxr.images.inbox import Arrival, single_file
from cxr.images.synthetic import draw_examples, draw_inbox
from cxr.library import Predictor as LibraryPredictor
from cxr.metrics.conformal import class_threshold
from cxr.pipeline import score_inbox
from cxr.serving import registry
from cxr.serving.package import Package, load_package
from cxr.serving.predictor import Predictor
from cxr.serving.scoring.scores import score_rows, scores_table
from cxr.serving.screening import FileReading, examine_image, read_image
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.storage.scores_folder import ScoresFolder
from cxr.training.run import Run, load_run
from tests.support.endpoint import served
from tests.support.packages import sign
from tests.support.shared import NewFolder

LEVEL = 0.3
ANSWERS = ["answer", "prediction_set"]


@pytest.fixture(scope="module")
def place(home: Path, new_folder: NewFolder) -> Path:
    """A model `tiny` whose version 1 refers no image, and whose version 2, the champion, does; and an inbox."""
    place = new_folder("referral")
    shutil.copytree(home / "models", place / "models")
    model = ModelFolder.named(place / "models", "tiny")
    run = load_run(RunFolder(home / "experiments" / "run"))
    registry.promote(model, make_package(run, model, refer=LEVEL).version)
    draw_inbox(place / "inbox", n_images=6, seed=2)
    return place


@pytest.fixture(scope="module")
def package(place: Path) -> Package:
    return registry.load_champion(place / "models", "tiny")


@pytest.fixture(scope="module")
def images(place: Path) -> list[Path]:
    return sorted((place / "inbox" / "ward-3").glob("image-*.jpeg"))


def with_thresholds(package: Package, normal: float, pneumonia: float) -> Package:
    facts = package.facts["refer"] | {"thresholds": {"NORMAL": normal, "PNEUMONIA": pneumonia}}
    return dataclasses.replace(package, facts=package.facts | {"refer": facts})


def predictor_of(package: Package, place: Path) -> Predictor:
    return Predictor(package, device="cpu", precision="fp32", compile="off", cache=place / "cache")


def scored_by(package: Package, readings: list[FileReading], place: Path) -> pd.DataFrame:
    rows = score_rows(package, None, readings, predictor_of(package, place).predict(readings))
    return scores_table(rows, package.classes)


def test_the_thresholds_are_the_quantiles_of_each_class_out_of_fold(package: Package, home: Path) -> None:
    predictions = pd.read_parquet(home / "experiments/run/metrics/predictions.parquet")
    out_of_fold = OutOfFold(predictions, package.classes)
    probability = package.class_calibration.probability(out_of_fold.logits)
    facts = package.facts["refer"]
    assert (facts["level"], facts["source"]) == (LEVEL, "out_of_fold")
    for k, name in enumerate(package.classes):
        own = out_of_fold.target == k
        patients = predictions.loc[own, "group_id"]
        assert facts["thresholds"][name] == class_threshold(probability[own, k], patients.to_numpy(), LEVEL)
        assert facts["n_patients"][name] == patients.nunique()
    values = [row["value"] for row in referral_rates(out_of_fold, LEVEL)]
    assert [row["value"] for row in facts["rates"]] == pytest.approx(values, nan_ok=True)


def test_a_file_has_one_answer_in_job_library_page_and_endpoint(
    place: Path, package: Package, images: list[Path], tmp_path: Path
) -> None:
    config = ScoreConfig(name="tiny", out=tmp_path / "scores", models=place / "models", settle=0, compile="off")
    config = dataclasses.replace(config, cache=place / "cache", device="cpu", force=True)
    scoring_run, (outcome,) = score_inbox(place / "inbox", config, lambda *rows: [])
    of_job = pd.concat(map(pd.read_parquet, ScoresFolder.at(config.out).published("ward-3").parts()))
    of_job = of_job.set_index("path").loc[[path.name for path in images], ANSWERS]
    library = LibraryPredictor(package, device="cpu", compile="off", cache=place / "cache")
    of_library = library.predict_files(images)[ANSWERS]
    model = load_model(place / "models", "tiny", package.version, place / "cache")
    uploaded = [uploads.read(package, path.name, path.read_bytes()) for path in images]
    uploads.predict(model, uploaded)
    of_page = uploads.table(model, uploaded)[ANSWERS]
    with served(package, place / "cache") as endpoint:
        form = [("images", (path.name, path.read_bytes(), "image/jpeg")) for path in images]
        of_endpoint = pd.DataFrame(endpoint.client.post("/predict", files=form).json()["images"])[ANSWERS]
        (described,) = endpoint.client.get("/models").json()["models"]
    assert described["refer"] == LEVEL
    assert of_job["answer"].isin([*package.classes, "refer"]).all()
    referred = of_job[of_job["answer"] == "refer"]
    n_none = int((referred["prediction_set"] == "").sum())
    assert outcome.n_referred == {"fits none": n_none, "fits several": len(referred) - n_none}
    report = scoring_run.folder.report.read_text()
    assert f"{len(referred)} image{'' if len(referred) == 1 else 's'} referred</b>: {n_none} fit no class" in report
    for other in (of_library, of_page, of_endpoint):
        assert other.to_numpy().tolist() == of_job.to_numpy().tolist()


def test_a_class_is_the_answer_where_it_alone_fits_and_the_image_is_referred_elsewhere(
    place: Path, package: Package, images: list[Path]
) -> None:
    readings = [read_image(single_file(path), package.size) for path in images]
    for normal, pneumonia, answer, fitting in (
        (0.0, 0.0, "refer", "NORMAL|PNEUMONIA"),
        (1.0, 1.0, "refer", ""),
        (0.0, 1.0, "NORMAL", "NORMAL"),
        (1.0, 0.0, "PNEUMONIA", "PNEUMONIA"),
    ):
        table = scored_by(with_thresholds(package, normal, pneumonia), readings, place)
        assert table["answer"].tolist() == [answer] * len(images)
        assert table["prediction_set"].tolist() == [fitting] * len(images), "an empty set is not a missing one"


def test_a_package_that_refers_no_image_scores_as_one_that_does_but_for_the_answers(
    place: Path, package: Package, images: list[Path]
) -> None:
    before = load_package(ModelFolder.named(place / "models", "tiny").version("1"))
    readings = [read_image(single_file(path), package.size) for path in images]
    tables = [scored_by(one, readings, place) for one in (before, package)]
    assert tables[0][ANSWERS].isna().all(axis=None)
    assert tables[1][ANSWERS].notna().all(axis=None)
    pd.testing.assert_frame_equal(
        *(table.drop(columns=[*ANSWERS, "model_version", "scored_at"]) for table in tables), check_exact=True
    )
    assert "refer" not in before.facts
    assert "refer" not in before.facts["identity"]
    without = {name: value for name, value in package.facts["identity"].items() if name != "refer"}
    assert without == before.facts["identity"]


def test_packaging_with_another_level_is_another_version(package: Package, place: Path, home: Path) -> None:
    model = ModelFolder.named(place / "models", "tiny")
    run = load_run(RunFolder(home / "experiments" / "run"))
    assert make_package(run, model, refer=LEVEL).version == package.version == "2"
    assert make_package(run, model).version == "1"


def test_the_card_says_what_is_promised_and_what_is_not(package: Package) -> None:
    card = " ".join(package.folder.card.read_text().split())
    assert "of each class at most 30% are wrongly excluded" in card
    assert "no theorem covers that" in card
    for name, threshold in package.facts["refer"]["thresholds"].items():
        assert f"| {name} | {threshold:.4f} | {package.facts['refer']['n_patients'][name]} |" in card


@pytest.mark.parametrize("level", [0.0, 1.0, 10.0, -0.1, 0.51, float("nan")])
def test_a_level_out_of_range_is_refused(head: Run, tmp_path: Path, level: float) -> None:
    model = ModelFolder.named(tmp_path, "tiny")
    with pytest.raises(ConfigError, match=r"--refer must lie above 0 and be at most 0\.5, such as 0\.1, got"):
        make_package(head, model, refer=level)
    assert not model.path.exists()


def test_too_few_patients_of_a_class_are_refused_with_the_level_that_they_allow(head: Run, tmp_path: Path) -> None:
    predictions = files.read_table(head.folder.predictions)
    n, name = min((group["group_id"].nunique(), name) for name, group in predictions.groupby("label"))
    model = ModelFolder.named(tmp_path, "tiny")
    with pytest.raises(PackageError) as refused:
        make_package(head, model, refer=0.01)
    assert str(refused.value).startswith(f"--refer 0.01 needs 99 patients of each class, and there are {n} of {name}: ")
    possible = float(str(refused.value).split()[-3])
    assert (n + 1) * (possible - 0.001) < 1 <= (n + 1) * possible
    assert not model.path.exists()


def test_several_findings_and_a_class_that_reads_as_an_answer_are_refused(several: Run, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path, "tiny")
    with pytest.raises(PackageError, match="--refer needs one class for each image, and there are several findings"):
        make_package(several, model, refer=0.1)
    for name in ("refer", "a|b"):
        with pytest.raises(PackageError, match=f"class {name!r} needs another name for that".replace("|", r"\|")):
            require_level(0.1, Classes((name, "PNEUMONIA")))
    assert not model.path.exists()


@pytest.mark.parametrize(
    "thresholds", [{"NORMAL": 0.2}, {"NORMAL": 0.2, "PNEUMONIA": 2.0}, {"NORMAL": 0.2, "PNEUMONIA": None}]
)
def test_thresholds_that_make_no_sense_are_refused(package: Package, tmp_path: Path, thresholds: object) -> None:
    model = ModelFolder.named(tmp_path, "tiny")
    folder = model.version("2")
    shutil.copytree(package.folder.path, folder.path)
    facts = files.read_json(folder.description)
    files.write_json(folder.description, facts | {"refer": facts["refer"] | {"thresholds": thresholds}})
    sign(folder)
    with pytest.raises(PackageError, match="makes no sense"):
        load_package(folder)


def test_three_classes_are_referred_too(three: Run, tmp_path: Path) -> None:
    package = load_package(make_package(three, ModelFolder.named(tmp_path, "three"), refer=0.4))
    assert list(package.facts["refer"]["thresholds"]) == ["NORMAL", "bacteria", "virus"]
    thresholds = dict.fromkeys(package.classes, 0.0)
    package = dataclasses.replace(
        package, facts=package.facts | {"refer": package.facts["refer"] | {"thresholds": thresholds}}
    )
    image = next(iter(draw_examples().values()))
    reading = examine_image(Arrival("x", "", len(image), 0), image, package.size)
    (prediction,) = predictor_of(package, tmp_path).predict([reading])
    assert (prediction.answer, prediction.columns["prediction_set"]) == ("refer", "NORMAL|bacteria|virus")


def test_the_command_line_packages_and_explains_with_an_answer(
    place: Path, package: Package, images: list[Path], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [f"--models={place / 'models'}", f"--experiments={home / 'experiments'}"]
    app(["package", "run", "--name=tiny", f"--refer={LEVEL}", *folders])
    assert "version  2" in capsys.readouterr().out
    places = [f"--models={place / 'models'}", f"--cache={place / 'cache'}", f"--out={tmp_path / 'explanations'}"]
    app(["explain", str(images[0]), "--name=tiny", "--device=cpu", *places])
    (row,) = pd.read_parquet(tmp_path / "explanations" / "explanations.parquet").to_dict("records")

    assert f"answer {row['answer']}" in capsys.readouterr().out.split("\n  ", 2)[2]
