"""Every file of a run and of a model, damaged in every way, under every verb and on every view that reads it.

A walk damages all files at once and types the verb. As long as it ends with exit code 2, the file that its sentence
names is put back, and the verb is typed again. At its end the verb prints what it prints on undamaged files: it has
named each file that it reads, and what it prints does not depend on any other.
"""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

import pytest

from app.server import Folders
from cxr.cli.terminal import run_command
from cxr.config import Execution
from cxr.dataset.examination import examine
from cxr.evaluation.on_request.stress import stress
from cxr.evaluation.tables import TABLES as TABLE_NAMES
from cxr.images.synthetic import draw_images
from cxr.pipeline import cross_validate
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run
from data_checks.gate import check_data, check_results
from data_checks.tolerances import Tolerances
from flows.cli import app as cli
from tests.app.support import open_run, opened
from tests.support.packages import replace
from tests.support.runs import Finished
from tests.support.shared import NewFolder

Outcome = tuple[int, str, str]
"""Exit code, stdout and stderr."""
Damage = Callable[[bytes, bytes], bytes | None]
"""A function from a file's bytes and those of another run's file to what is there afterwards; None if it is gone."""
DAMAGES: dict[str, Damage] = {
    "deleted": lambda data, other: None,
    "cut in half": lambda data, other: data[: len(data) // 2],
    "a bit flipped": lambda data, other: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :]
    ),
    "emptied": lambda data, other: b"",
    "of another run": lambda data, other: other,
}
NOT_RESULTS = re.compile(r"\.lock(\.json)?$|events\.jsonl$|SHA256SUMS$|/newest$")


@pytest.fixture(scope="module")
def whole(home: Path, finished: Finished, new_folder: NewFolder) -> Path:
    """A run with checks, a report, a stress test and an external test set; another run; a model with two versions."""
    place = new_folder("whole")
    run = RunFolder(place / "experiments" / "run")
    shutil.copytree(home / "experiments" / "run", run.path)
    shutil.copytree(finished().folder.path, place / "experiments" / "other")
    draw_images(place / "elsewhere", n_images=40, seed=9)
    begun = load_run(run)
    check_data(run, begun.config, Tolerances(), data_docs=False)
    check_results(begun, Tolerances())
    stress(begun, n_images=4)
    where = f"--experiments={place / 'experiments'}"
    assert outcome(["report", "run", "--external", str(place / "elsewhere"), where])[0] == 0
    shutil.copytree(home / "models", place / "models")
    assert outcome(["package", "other", "--name=tiny", where, f"--models={place / 'models'}"])[0] == 0
    assert outcome(["promote", "tiny", "2", "--force", f"--models={place / 'models'}"])[0] == 0
    return place


def outcome(words: list[str], capsys: pytest.CaptureFixture[str] | None = None) -> Outcome:
    return outcome_of(partial(cli, words), capsys)


def outcome_of(command: Callable[[], object], capsys: pytest.CaptureFixture[str] | None) -> Outcome:
    with pytest.raises(SystemExit) as ended:
        run_command(command)
    out, err = capsys.readouterr() if capsys else ("", "")
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of all that for a test to damage. Its files are hard links: replace them, never write to them."""
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy, copy_function=os.link)
    yield copy
    shutil.rmtree(copy)


def damage_all(whole: Path, place: Path, folder: str, shift: int, spared: Collection[str] = ()) -> list[Path]:
    """Damage all files below a folder but the spared ones, each in another way; return them."""
    damaged = []
    for path in sorted(path for path in (place / folder).rglob("*") if path.is_file()):
        name = re.sub("-[0-9a-f]{8}/", "/", path.relative_to(place / folder).as_posix())
        if NOT_RESULTS.search(name) or name in spared:
            continue
        data = path.read_bytes()
        foreign = [whole / "experiments/other" / path.relative_to(place / folder), whole / "models/tiny/2" / path.name]
        other = next((file.read_bytes() for file in foreign if file.exists() and file.read_bytes() != data), b"other")
        changed = list(DAMAGES.values())[(len(damaged) + shift) % len(DAMAGES)](data, other)
        path.unlink()
        if changed is not None:
            path.write_bytes(changed)
        damaged.append(path)
    return damaged


def walk(place: Path, damaged: list[Path], whole: Path, verb: Callable[[], Outcome]) -> set[str]:
    """Walk as described above; return the files that the verb has named."""
    left, named_by_verb = set(damaged), set()
    while True:
        code, out, err = verb()
        if code == 0:
            return named_by_verb
        sentence = next(line for line in err.splitlines() if line.startswith("error: "))
        assert (code, "Traceback" in err + out) == (2, False), err
        assert re.search(r": (put back a copy|restore it), or \w", sentence), sentence
        named = {path for path in left if names(sentence, path)}
        assert named, sentence
        for path in named:
            replace(path, (whole / path.relative_to(place)).read_bytes())
        left -= named
        named_by_verb |= {re.sub("-[0-9a-f]{8}/", "/", path.relative_to(place).as_posix()) for path in named}


def names(sentence: str, path: Path) -> bool:
    return f"{str(path)!r}" in sentence or f"file {path.name!r} of package {str(path.parent)!r}" in sentence


BEGUN = {"config.json", "run_id"}
DONE = BEGUN | {f"folds/fold={fold}/complete.json" for fold in (0, 1)}
IMAGES = {"manifest.parquet", "near_duplicates.parquet", "folds.parquet", "leakage_certificate.json"}
WEIGHTS = {f"folds/fold={fold}/weights.safetensors" for fold in (0, 1)}
EPOCHS = {f"folds/fold={fold}/epochs.parquet" for fold in (0, 1)}
PREDICTIONS = {"metrics/predictions.parquet"}
TABLES = {f"metrics/{name}.parquet" for name in ("predictions", *TABLE_NAMES)}
REPORT = DONE | EPOCHS | WEIGHTS | TABLES
REPORT |= {"manifest.parquet", "data.json", "leakage_certificate.json"}
REPORT |= {"checks/acquisition_baseline.parquet", "checks/expectations.parquet"}
ELSEWHERE = {f"external_tests/elsewhere/{name}.parquet" for name in ("predictions", "metrics")}
REPORT |= {f"external_tests/elsewhere/{name}" for name in ("openings.json", "predictions.parquet")}
COMPARED = {f"external_tests/elsewhere/{name}.parquet" for name in ("gap", "referral")}
REPORT |= COMPARED
STRESS = {"metrics/stress.parquet"}
HELD_OUT = {f"folds/fold={fold}/predictions.parquet" for fold in (0, 1)}
ARTIFACTS = TABLES | STRESS | {"leakage_certificate.json", "report.html"}
READ: dict[str, set[str]] = {
    "runs": DONE | {"metrics/summary.parquet"},
    "compare run other": BEGUN | PREDICTIONS,
    "train-fold run 0": BEGUN | {"folds/fold=0/complete.json"},
    "report run": REPORT | STRESS,
    "stress run --images=4": REPORT | IMAGES,
    "evaluate run": DONE | IMAGES | WEIGHTS | ELSEWHERE,
    "package run --name=new": DONE | WEIGHTS | PREDICTIONS | {"manifest.parquet", "metrics/summary.parquet"},
    "learning-curve run --share=0.5": REPORT | IMAGES | STRESS | HELD_OUT,
    "mlflow run": DONE | EPOCHS | ARTIFACTS | HELD_OUT,
}
"""What each verb reads of a run."""


@pytest.mark.parametrize("shift", range(len(DAMAGES)))
def test_runs_are_not_listed_from_files_that_were_damaged(
    whole: Path, place: Path, capsys: pytest.CaptureFixture[str], shift: int
) -> None:
    damaged = damage_all(whole, place, "experiments/run", shift)
    words = ["runs", f"--experiments={place / 'experiments'}"]
    named = walk(place, damaged, whole, lambda: outcome(words, capsys))
    assert named == {f"experiments/run/{name}" for name in READ["runs"]}


SLOW = ("stress run --images=4", "package run --name=new", "learning-curve run --share=0.5", "mlflow run")
REPORTING = ("stress run --images=4", "learning-curve run --share=0.5")
"""Verbs that end with the report. The files that it reads are damaged under `report` alone, which takes no minutes."""


@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=[pytest.mark.faults] if verb in SLOW else []) for verb in READ if verb != "runs"]
)
def test_a_verb_names_each_damaged_file_of_a_run_that_it_reads(
    whole: Path, place: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    spared = REPORT - IMAGES - DONE if verb in REPORTING else set()
    damaged = damage_all(whole, place, "experiments/run", list(READ).index(verb), spared)
    words = [*verb.split(), f"--experiments={place / 'experiments'}"]
    words += [f"--models={place / 'models'}"] if verb.startswith("package") else []
    words += [f"--out={place / 'comparison'}"] if verb.startswith("compare") else []
    words += [f"--store=sqlite:///{place / 'mlflow.db'}"] if verb.startswith("mlflow") else []
    named = walk(place, damaged, whole, lambda: outcome(words, capsys))
    assert named == {f"experiments/run/{name}" for name in READ[verb] - spared}


@pytest.mark.faults
def test_a_run_that_is_resumed_names_each_damaged_file_that_it_goes_on_from(
    whole: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = load_run(RunFolder(place / "experiments" / "run"))
    verified.remove(run.folder.fold(1).complete)
    damaged = damage_all(whole, place, "experiments/run", 1)
    execution = Execution(experiments=place / "experiments", run_id="run", cache=place / "cache", devices="cpu")
    named = walk(place, damaged, whole, lambda: outcome_of(lambda: cross_validate(run.config, execution), capsys))
    trained_anew = {path for path in READ["report run"] | HELD_OUT if "fold=1" in path}
    evaluated_anew = (TABLES - STRESS) | COMPARED
    read = READ["report run"] | IMAGES | HELD_OUT | ELSEWHERE | {"left_aside.parquet"}
    read -= trained_anew | evaluated_anew
    assert named | {"experiments/run/run_id"} == {f"experiments/run/{name}" for name in read}


@pytest.mark.faults
def test_data_checks_name_each_damaged_file_that_they_read(
    whole: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = load_run(RunFolder(place / "experiments" / "run"))
    damaged = damage_all(whole, place, "experiments/run", 1)

    def validate() -> None:
        examine(run.config, run.folder, cache=place / "cache")
        check_data(run.folder, run.config, Tolerances())

    named = walk(place, damaged, whole, lambda: outcome_of(validate, capsys))
    judged = IMAGES | {"data.json", "left_aside.parquet", "checks/predictions.json", "checks/metrics.json"}
    assert named | {"experiments/run/run_id"} == {f"experiments/run/{name}" for name in BEGUN | judged}


OF_PACKAGE = {
    "README.md",
    "fold-0.safetensors",
    "fold-1.safetensors",
    "images.parquet",
    "novelty.safetensors",
    "package.json",
    "shared.safetensors",
}
READ_OF_MODEL = {
    "models": {"champion", "1/package.json", "2/package.json"},
    "promote tiny 2": {"champion", *(f"2/{name}" for name in OF_PACKAGE)},
    "rollback tiny": {"champion", "promotions.json", *(f"1/{name}" for name in OF_PACKAGE)},
    "explain {image} --name=tiny": {"champion", *(f"2/{name}" for name in OF_PACKAGE)},
    "score {inbox} --name=tiny": {"champion", *(f"2/{name}" for name in OF_PACKAGE)},
}
"""What each verb reads of a model."""


@pytest.mark.parametrize("shift", range(len(DAMAGES)))
@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=[pytest.mark.faults] if "score" in verb else []) for verb in READ_OF_MODEL]
)
def test_a_verb_names_each_damaged_file_of_a_model_that_it_reads(
    whole: Path, place: Path, capsys: pytest.CaptureFixture[str], verb: str, shift: int
) -> None:
    damaged = damage_all(whole, place, "models/tiny", shift)
    image = next((place / "elsewhere").rglob("*.jpeg"))
    words = [*verb.format(image=image, inbox=place / "elsewhere").split(), f"--models={place / 'models'}"]
    words += [f"--out={place / 'out'}", f"--cache={place / 'cache'}"] if "--name" in verb else []
    words += ["--settle=0"] if verb.startswith("score") else []
    named = walk(place, damaged, whole, lambda: outcome(words, capsys))
    assert named == {f"models/tiny/{name}" for name in READ_OF_MODEL[verb]}


SHOWN = {
    "models": {"models/tiny/champion", "models/tiny/promotions.json"}
    | {f"models/tiny/{name}" for name in ("1/package.json", "2/package.json", "2/README.md")},
    "classify": {f"models/tiny/{name}" for name in READ_OF_MODEL["models"]}
    | {f"models/tiny/2/{name}" for name in OF_PACKAGE},
    "runs": {f"experiments/run/{name}" for name in READ["runs"] | EPOCHS | PREDICTIONS}
    | {
        f"experiments/run/{name}"
        for name in (
            "manifest.parquet",
            "metrics/metrics.parquet",
            "metrics/confusion.parquet",
            "metrics/label_suspects.parquet",
        )
    },
}
"""What each view of the page reads, in all of its sections."""
SECTIONS = ("Metrics", "Threshold", "Curves", "Folds and subgroups", "Errors", "Label suspects", "Training", "Compare")


@pytest.mark.parametrize("view", SHOWN)
def test_a_view_names_each_damaged_file_that_it_reads(whole: Path, place: Path, view: str) -> None:
    damaged = damage_all(whole, place, "models/tiny", 2) + damage_all(whole, place, "experiments/run", 2)
    folders = Folders(place / "experiments", place / "models", place / "scores", place / "cache")
    assert walk(place, damaged, whole, lambda: shown(view, folders)) == SHOWN[view]


def shown(view: str, folders: Folders) -> Outcome:
    """Open a view and each of its sections; code 2 if one shows an error."""
    page = opened(view, folders)
    if view == "runs" and not page.error:
        open_run(page, "run")
    for section in SECTIONS:
        if view == "runs" and not page.error:
            page.pills[0].set_value(section).run()
    assert not page.exception
    error = "".join(f"error: {element.value}\n".replace("\\", "") for element in page.error)
    return (2 if error else 0), "", error


@pytest.mark.parametrize("folder", ["metrics", "checks", "folds/fold=1", "external_tests"])
def test_a_whole_folder_of_another_run_is_noticed(
    whole: Path, place: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    foreign, own = place / "experiments/other" / folder, place / "experiments/run" / folder
    if folder == "external_tests":
        words = ["report", "other", "--external", str(place / "elsewhere"), f"--experiments={foreign.parents[1]}"]
        assert outcome(words)[0] == 0
    elif folder == "checks":
        begun = load_run(RunFolder(foreign.parent))
        check_data(begun.folder, begun.config, Tolerances(), data_docs=False)
    shutil.rmtree(own)
    shutil.copytree(foreign, own)
    code, _, err = outcome(["report", "run", f"--experiments={place / 'experiments'}"], capsys)
    assert code == 2
    assert re.search(rf"'{own}/[^\n]* belongs to another run, as its whole folder does: put back a copy, or ", err)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("folder", ["experiments/run", "experiments/run/metrics", "experiments/run/folds/fold=1"])
def test_a_damaged_record_is_noticed(
    whole: Path, place: Path, capsys: pytest.CaptureFixture[str], folder: str, damage: str
) -> None:
    record = place / folder / "SHA256SUMS"
    other = (place / folder.replace("run", "other") / "SHA256SUMS").read_bytes()
    changed = DAMAGES[damage](record.read_bytes(), other)
    record.unlink()
    if changed is not None:
        record.write_bytes(changed)
    words = ["runs", f"--experiments={place / 'experiments'}"]
    untouched = outcome(["runs", f"--experiments={whole / 'experiments'}"], capsys)[1]
    code, out, err = outcome(words, capsys)
    if code == 0:
        assert out == untouched, "only lines of other files are damaged"
    else:
        assert code == 2
        assert re.search(rf"^error: '{place / folder}/[^\n]*: put back a copy, or [^\n]*$", err, re.MULTILINE)
