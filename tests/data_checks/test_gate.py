"""Every kind of damage a folder of images is known to carry, planted in a copy of the drawn set."""

import base64
import dataclasses
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.errors import ChecksFailedError, FoldError
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.verdict import Verdict
from data_checks import gate
from data_checks.tolerances import Tolerances
from data_checks.verdicts import read_verdicts, require
from tests.support.shared import NewFolder

CXR = str(Path(sys.executable).with_name("cxr"))


def picture(pixels: np.ndarray, format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format)
    return stream.getvalue()


GENERATOR = np.random.default_rng(0)
NOISE = GENERATOR.integers(20, 230, (200, 240), dtype=np.uint8)


def an_image(root: Path, number: int = 0) -> Path:
    return sorted(root.glob("train/NORMAL/IM-*"))[number]


def plant_in_other_class(root: Path) -> str:
    original = an_image(root)
    shutil.copyfile(original, root / "train" / "PNEUMONIA" / "person700_virus_1.jpeg")
    return "train/PNEUMONIA/person700_virus_1.jpeg"


def plant_reencoded_in_other_class(root: Path) -> str:
    Image.open(an_image(root, 1)).save(root / "train/PNEUMONIA/person701_virus_1.jpeg", quality=60)
    return "train/PNEUMONIA/person701_virus_1.jpeg"


def plant_under_another_patient(root: Path) -> str:
    Image.open(an_image(root, 2)).save(root / "train/NORMAL/IM-7777-0001.jpeg", quality=60)
    return "train/NORMAL/IM-7777-0001.jpeg"


def plant(name: str, data: bytes) -> Callable[[Path], str]:
    def write(root: Path) -> str:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
        return name

    return write


def plant_truncated(root: Path) -> str:
    whole = an_image(root).read_bytes()
    return plant("train/NORMAL/IM-7778-0001.jpeg", whole[: len(whole) // 2])(root)


def plant_hidden(root: Path) -> str:
    for number in range(40):
        plant(f"train/.backup/NORMAL/{number}.jpeg", b"-")(root)
    return "train/.backup/NORMAL/0.jpeg"


def plant_another_format(root: Path) -> str:
    for number in range(40):
        plant(f"train/NORMAL/{number}.tif", b"-")(root)
    return "train/NORMAL/0.tif"


def plant_rare_class(root: Path) -> str:
    for number in range(6):
        name = f"train/TUBERCULOSIS/person90{number % 3}_virus_{number}.png"
        plant(name, picture(np.roll(NOISE, number * 40, axis=1)))(root)
    return "train/TUBERCULOSIS/person900_virus_0.png"


def plant_empty_class(root: Path) -> str:
    (root / "train" / "TUBERCULOSIS").mkdir()
    return "TUBERCULOSIS"


def plant_empty_split(root: Path) -> str:
    shutil.rmtree(root / "val" / "NORMAL")
    (root / "val" / "NORMAL").mkdir()
    return "val/NORMAL"


HALF_WHITE = np.maximum(NOISE, np.repeat([255, 0], [160, 80]).astype(np.uint8))
COLOUR = np.stack([NOISE, NOISE // 3, NOISE // 5], axis=-1)
PLANTS = {
    "an image of one class copied into the other": (plant_in_other_class, "critical", "labels_of_these_bytes"),
    "and re-encoded": (plant_reencoded_in_other_class, "critical", "one_label"),
    "a truncated JPEG": (plant_truncated, "warning", "unreadable_because"),
    "a text file": (plant("train/NORMAL/notes.jpeg", b"these are notes"), "warning", "unreadable_because"),
    "an empty file": (plant("train/NORMAL/IM-7779-0001.jpeg", b""), "warning", "unreadable_because"),
    "a 16-bit PNG": (
        plant("train/NORMAL/IM-7781-0001.png", picture(NOISE.astype(np.uint16) * 16)),
        "warning",
        "usual_bits",
    ),
    "a colour photograph": (plant("train/NORMAL/IM-7782-0001.png", picture(COLOUR)), "warning", "chroma"),
    "an all-black image": (
        plant("train/NORMAL/IM-7783-0001.png", picture(np.zeros((200, 200), np.uint8))),
        "critical",
        "contrast",
    ),
    "a saturated image": (
        plant("train/NORMAL/IM-7784-0001.png", picture(HALF_WHITE)),
        "warning",
        "bright_share",
    ),
    "a class with 3 patients": (plant_rare_class, "critical", "patients_of_class"),
    "an empty class": (plant_empty_class, "critical", "used_label"),
    "an empty class in one split": (plant_empty_split, "warning", "folder"),
    "spaces and letters of elsewhere in a path": (
        plant("train/NORMAL/IM-7777 Röntgen 胸片.png", picture(NOISE)),
        "info",
        "plain_path",
    ),
    "a re-encoded copy under another patient": (plant_under_another_patient, "warning", "one_patient"),
    "a tiny image": (plant("train/NORMAL/IM-7785-0001.png", picture(NOISE[:40, :40])), "warning", "side"),
    "a strip": (plant("train/NORMAL/IM-7786-0001.png", picture(np.tile(NOISE, 4))), "warning", "elongation"),
    "a hidden folder as large as the set": (plant_hidden, "warning", "unexplained"),
    "images in a format that is not read": (plant_another_format, "critical", "image"),
    "an image without a patient": (plant("train/NORMAL/other.png", picture(NOISE)), "warning", "patient_id"),
}
ALONE = (
    "a class with 3 images",
    "an empty class",
    "an empty class in one split",
    "a hidden folder as large as the set",
    "images in a format that is not read",
)
"""Plants that change what is expected of the whole set."""


@pytest.fixture(scope="module")
def cache(new_folder: NewFolder) -> Path:
    """One cache for all plants: most of their images are the same."""
    return new_folder("cache")


@pytest.fixture
def images(sample: Path, tmp_path: Path) -> Path:
    """A copy of the drawn set that may be damaged."""
    return Path(shutil.copytree(sample, tmp_path / "images"))


@pytest.fixture(scope="module")
def whole(sample: Path, cache: Path, new_folder: NewFolder) -> Path:
    """The folder of a run in which the drawn set was examined."""
    folder = RunFolder(new_folder("whole") / "run")
    examine(DataConfig(data=str(sample)), folder, cache=cache)
    return folder.path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> RunFolder:
    """A copy of it, not checked yet."""
    return RunFolder(Path(shutil.copytree(whole, tmp_path / "run")))


@pytest.fixture
def config(sample: Path) -> DataConfig:
    """What it was examined for."""
    return DataConfig(data=str(sample))


@pytest.fixture(scope="module")
def planted(sample: Path, cache: Path, new_folder: NewFolder) -> Callable[[str], tuple[str, RunFolder, list[Verdict]]]:
    """Plant one thing, or all that may be there together; return its name, the run and the verdicts."""
    made: dict[tuple[str, ...], tuple[dict[str, str], RunFolder, list[Verdict]]] = {}

    def look(what: str) -> tuple[str, RunFolder, list[Verdict]]:
        together = (what,) if what in ALONE else tuple(name for name in PLANTS if name not in ALONE)
        if together not in made:
            place = new_folder("planted")
            images = Path(shutil.copytree(sample, place / "images"))
            names = {name: PLANTS[name][0](images) for name in together}
            made[together] = names, RunFolder(place / "run"), check(images, RunFolder(place / "run"), cache)
        names, folder, verdicts = made[together]
        return names[what], folder, verdicts

    return look


def check(data: Path, folder: RunFolder, cache: Path, limit: Tolerances = Tolerances(), **fields: object) -> list:  # noqa: B008
    config = DataConfig(data=str(data), **({"folds": 5} | fields))
    examine(config, folder, cache=cache)
    return gate.check_data(folder, config, limit)


@pytest.mark.parametrize("what", PLANTS)
def test_what_is_planted_is_named_with_its_severity(
    what: str, planted: Callable[[str], tuple[str, RunFolder, list[Verdict]]]
) -> None:
    _, severity, column = PLANTS[what]
    name, folder, verdicts = planted(what)
    findings = [f for v in verdicts for f in v.failed(severity) if f.column == column]
    assert findings, [f.column for v in verdicts for f in v.findings if not f.passed]
    assert any(name in map(str, row.values()) for f in findings for row in f.unexpected)
    report = folder.checks_report.read_text(encoding="utf-8")
    assert name in report
    table = files.read_table(folder.expectations)
    assert ((table["column"] == column) & (table["severity"] == severity) & ~table["passed"]).any()
    with (
        nullcontext()
        if severity != "critical"
        else pytest.raises(ChecksFailedError, match=r"the checks stop here: .* See .*report\.html")
    ):
        require([dataclasses.replace(v, findings=findings) for v in verdicts], folder.checks_report)


def test_a_whole_set_passes_with_the_warnings_that_are_due(folder: RunFolder, config: DataConfig) -> None:
    verdicts = gate.check_data(folder, config, Tolerances())
    assert not any(v.failed("critical") for v in verdicts)
    assert {v.table for v in verdicts} == {"manifest", "left_aside", "near_duplicates", "folds", "acquisition_baseline"}
    warned = {f.column for v in verdicts for f in v.failed("warning")}
    assert "unreadable_because" in warned, "one drawn image is truncated"
    assert "copy_of" in {f.column for v in verdicts for f in v.failed("info")}, "three are copies"


def test_an_unreadable_file_is_named(images: Path, tmp_path: Path) -> None:
    locked = an_image(images)
    locked.chmod(0)
    path = locked.relative_to(images).as_posix()
    drop_override = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    prefix = drop_override if os.geteuid() == 0 else []
    if prefix and shutil.which("setpriv") is None:
        pytest.skip("root reads every file, and setpriv, which takes that away, is not here")
    code = (
        "import sys; from pathlib import Path; from cxr.config import DataConfig\n"
        "from cxr.dataset.examination import examine\n"
        "from cxr.storage.run_folder import RunFolder; folder = RunFolder(Path(sys.argv[2]))\n"
        "examine(DataConfig(data=sys.argv[1]), folder, cache=Path(sys.argv[3]))"
    )
    folder = RunFolder(tmp_path / "run")
    words = [*prefix, sys.executable, "-c", code, str(images), str(folder.path), str(tmp_path / "cache")]
    subprocess.run(words, check=True, timeout=200)
    verdicts = gate.check_data(folder, DataConfig(data=str(images)), Tolerances())
    require(verdicts, folder.checks_report)
    unreadable = [row for v in verdicts for f in v.failed("warning") for row in f.unexpected if row["value"]]
    assert {"path": path, "value": "cannot be read: Permission denied"} in unreadable
    assert "Permission denied" in folder.checks_report.read_text()


def test_many_unreadable_files_are_critical_until_tolerated(images: Path, tmp_path: Path, cache: Path) -> None:
    for number in range(8):
        plant(f"train/NORMAL/n{number}.jpeg", b"notes")(images)
    folder = RunFolder(tmp_path / "run")
    assert "unreadable_because" in {f.column for v in check(images, folder, cache) for f in v.failed("critical")}
    lenient = check(images, folder, cache, Tolerances(readable_share=0.8))
    assert not any(v.failed("critical") for v in lenient)


def test_a_report_needs_no_network_and_names_cannot_inject(images: Path, tmp_path: Path, cache: Path) -> None:
    name = '<img src=x onerror=alert(1)>&".png'
    plant(f"train/NORMAL/{name}", picture(np.zeros((200, 200), np.uint8)))(images)
    folder = RunFolder(tmp_path / "run")
    check(images, folder, cache)
    report = folder.checks_report.read_text(encoding="utf-8")
    assert name not in report
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;&#34;.png" in report
    assert not re.search(r'(src|href)="(?!data:|#)', report)
    assert "<script" not in report
    shown = [base64.b64decode(uri) for uri in re.findall(r"data:image/jpeg;base64,([^\"]+)", report)]
    assert shown
    assert all(max(Image.open(io.BytesIO(one)).size) <= 112 for one in shown)


def test_a_table_with_a_column_missing_fails_instead_of_passing(folder: RunFolder, config: DataConfig) -> None:
    verified.write_table(folder.near_duplicates, files.read_table(folder.near_duplicates).drop(columns="correlation"))
    with pytest.raises(KeyError, match="correlation"):
        gate.check_data(folder, config, Tolerances())


@pytest.mark.parametrize(
    ("how", "column"),
    [("moved", "folds_of_patient"), ("dropped", "fold"), ("doubled", "n_rows"), ("regrouped", "group_as_made")],
)
def test_folds_damaged_by_hand_are_named_with_their_group(
    how: str, column: str, folder: RunFolder, config: DataConfig
) -> None:
    folds = files.read_table(folder.folds)
    patient = folds["group_id"].value_counts().index[0]
    row = folds.index[folds["group_id"] == patient][0]
    damaged = {
        "moved": folds.assign(fold=folds["fold"].mask(folds.index == row, (folds["fold"] + 1) % 5)),
        "dropped": folds.drop(index=row),
        "doubled": pd.concat([folds, folds.loc[[row]]]),
        "regrouped": folds.assign(group_id=folds["group_id"].mask(folds.index == row, "nobody")),
    }[how]
    verified.write_table(folder.folds, damaged)
    verdicts = gate.check_data(folder, config, Tolerances())
    (finding,) = [f for v in verdicts if v.table == "folds" for f in v.failed("critical") if f.column == column]
    assert patient in {row["true_group"] for row in finding.unexpected}
    with pytest.raises(ChecksFailedError, match=f"folds: .*{patient}"):
        require([v for v in verdicts if v.table == "folds"], folder.checks_report)


def test_results_damaged_by_hand_are_refused(begin, sample: Path) -> None:
    from cxr.evaluation.tables import metrics_table

    run = begin(folds=2)
    images = run.images()
    probability = np.random.default_rng(0).uniform(size=len(images))
    scores = {
        "logit_NORMAL": 0.0,
        "logit_PNEUMONIA": np.log(probability / (1 - probability)),
        "probability_NORMAL": 1 - probability,
        "probability_PNEUMONIA": probability,
    }
    whole = images.assign(**scores)
    verified.write_table(run.folder.metrics, metrics_table(whole, run.classes))
    assert not failed(run, whole)
    nan = whole.assign(logit_NORMAL=[np.nan, *whole["logit_NORMAL"][1:]])
    assert failed(run, nan) == {"finite"}
    assert failed(run, whole.assign(probability_NORMAL=probability)) == {"sum_error"}
    assert failed(run, whole.assign(probability_NORMAL=-probability, probability_PNEUMONIA=1 + probability)) == {
        "least_probability",
        "greatest_probability",
    }
    assert failed(run, whole.iloc[1:]) == {"fold"}
    assert failed(run, pd.concat([whole, whole.iloc[:1]])) == {"path"}
    assert failed(run, whole.assign(fold=1 - whole["fold"])) == {"held_out"}
    metrics = files.read_table(run.folder.metrics)
    verified.write_table(run.folder.metrics, metrics.assign(value=metrics["value"].mask(metrics["metric"] == "f1")))
    assert failed(run, whole) == {"explained"}


def failed(run, predictions: pd.DataFrame) -> set[str]:
    verified.write_table(run.folder.predictions, predictions)
    return {f.column for v in gate.check_results(run, Tolerances()) for f in v.failed("critical")}


def test_data_docs_are_written_only_when_asked_for(folder: RunFolder, config: DataConfig) -> None:
    gate.check_data(folder, config, Tolerances())
    assert not (folder.checks / "data_docs").exists()
    gate.check_data(folder, config, Tolerances(), data_docs=True)
    assert (folder.checks / "data_docs" / "index.html").is_file()


def test_a_verdict_reads_as_it_was_written(folder: RunFolder, config: DataConfig) -> None:
    assert read_verdicts(folder) == []
    assert read_verdicts(folder) != gate.check_data(folder, config, Tolerances()) == read_verdicts(folder)


def test_a_verdict_of_an_earlier_look_does_not_stay(
    sample: Path, folder: RunFolder, config: DataConfig, cache: Path
) -> None:
    gate.check_data(folder, config, Tolerances())
    check(sample, folder, cache, folds=20)
    assert [v.table for v in read_verdicts(folder)] == ["manifest", "left_aside", "near_duplicates", "folds"]
    assert "acquisition_baseline" not in set(files.read_table(folder.expectations)["table"])


def test_no_folds_is_a_verdict_with_the_reason(sample: Path, tmp_path: Path, cache: Path) -> None:
    verdicts = check(sample, RunFolder(tmp_path / "run"), cache, folds=20)
    with pytest.raises(ChecksFailedError, match="at least 20 patients"):
        require(verdicts, tmp_path)
    (folds,) = [v for v in verdicts if v.table == "folds"]
    assert "fewer than the 20 folds" in folds.findings[0].unexpected[0]["value"]
    assert FoldError.__name__ not in folds.findings[0].sentence
