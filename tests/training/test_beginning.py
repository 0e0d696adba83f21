import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxr.config import Execution
from cxr.dataset.known_patients import COUNTED
from cxr.dataset.patients import KNOWN
from cxr.errors import ConfigError, DamagedError, DataError, FoldError, RunError
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run, require_startable
from cxr.training.run import Run, load_run
from tests.support.miniatures import nih

Begin = Callable[..., Run]


def test_the_same_config_resumes_the_run_and_leaves_its_tables_alone(begin: Begin) -> None:
    tables = [path for path in begin().folder.path.iterdir() if path.suffix == ".parquet"]
    before = {path: path.stat().st_mtime_ns for path in tables}
    begun_at = files.read_record(begin().folder.config)["begun_at"]
    assert {path: path.stat().st_mtime_ns for path in tables} == before
    assert files.read_record(begin().folder.config)["begun_at"] == begun_at


def test_a_run_from_before_the_sources_of_patients_were_counted_resumes_unchanged(begin: Begin) -> None:
    run = begin()
    folder = run.folder
    images, config_hash = run.images(), run.config_hash
    verified.write_table(folder.manifest, files.read_table(folder.manifest).drop(columns="patient_from"))
    data, certificate = files.read_json(folder.data), files.read_json(folder.certificate)
    verified.write_json(folder.data, {name: value for name, value in data.items() if name != "patient_pattern"})
    verified.write_json(folder.certificate, {k: value for k, value in certificate.items() if k not in COUNTED})
    assert "class_folder" not in run.identity
    again = begin()
    assert again.config_hash == config_hash
    pd.testing.assert_frame_equal(again.images(), images)
    verified.write_json(folder.certificate, certificate | {"n_groups": 1})
    with pytest.raises(FoldError, match=r"certified \(n_groups\)"):
        begin().images()


def test_a_pattern_that_was_found_is_part_of_the_run_and_found_again(begin: Begin, tree) -> None:
    effusions = ["00000001_000.png", "00000001_001.png", "00000002_000.png"]
    masses = ["00000003_000.png", "00000004_000.png", "00000004_001.png"]
    root = tree(nih({"Effusion": effusions, "Mass": masses}))
    run = begin(data=str(root), positive="Mass")
    assert run.config.patient_pattern == KNOWN["NIH ChestX-ray14"] == run.identity["patient_pattern"]
    assert files.read_record(run.folder.config)["config"]["patient_pattern"] == run.config.patient_pattern
    assert sorted(load_run(run.folder).images()["group_id"].unique()) == [
        "00000001",
        "00000002",
        "00000003",
        "00000004",
    ]
    assert begin(data=str(root), positive="Mass").config_hash == run.config_hash
    with pytest.raises(RunError, match="begun with another config: patient_pattern"):
        begin(data=str(root), positive="Mass", patient_pattern=r"^(\d+)_")


def test_another_config_for_a_run_is_refused_and_shows_the_difference(begin: Begin) -> None:
    begin()
    with pytest.raises(RunError, match=r"another config: epochs 1 → 9; seed 0 → 4\. Give the same values"):
        begin(epochs=9, seed=4)


def test_changed_data_is_another_run_and_moved_data_is_the_same(begin: Begin, sample: Path, tmp_path: Path) -> None:
    begin()
    moved = tmp_path / "moved"
    shutil.copytree(sample, moved)
    assert begin(data=str(moved)).config.data == str(moved)
    next(moved.rglob("IM-*.jpeg")).unlink()
    with pytest.raises(RunError, match="begun with other images: data"):
        begin(data=str(moved))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"data": "nowhere"}, DataError),
        ({"positive": "COVID"}, ConfigError),
        ({"holdout": "ward"}, ConfigError),
    ],
)
def test_a_mistake_leaves_no_run_behind(begin: Begin, tmp_path: Path, fields: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        begin(**fields)
    assert not (tmp_path / "experiments").exists()


def test_a_data_set_too_small_for_its_folds_begins_no_run(begin: Begin, tmp_path: Path) -> None:
    with pytest.raises(FoldError, match="fewer than the 20 folds"):
        begin(folds=20)
    folder = RunFolder(tmp_path / "experiments" / "run")
    assert not folder.has_begun
    assert not folder.folds.exists()
    assert len(files.read_table(folder.manifest)) == 80


def test_a_class_that_only_the_holdout_has_is_an_error(begin: Begin, image, tree) -> None:
    names = [f"train/{label}/{n}.png" for label in "AB" for n in range(4)] + [f"test/C/{n}.png" for n in range(4)]
    data = tree({name: image(seed) for seed, name in enumerate(names)})
    with pytest.raises(FoldError, match="class 'C' has images only in the holdout"):
        begin(data=str(data), holdout="test")


def test_a_run_is_found_again_from_another_folder(begin: Begin, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sample.parent)
    assert begin(data=sample.name).config.data == str(sample)


def test_a_word_stays_a_word_where_a_file_of_that_name_lies(
    begin: Begin, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").write_text("no weights")
    monkeypatch.chdir(tmp_path)
    assert begin(data=str(sample)).config.weights == "none"


def test_pretrained_weights_are_read_once_for_all_checks(begin: Begin, weights_file: str, tmp_path: Path) -> None:
    weights = Path(shutil.copy(weights_file, tmp_path / "own.pth"))
    begun = begin(weights=str(weights), trainable="head")
    execution = Execution(cache=begun.cache, devices="cpu")
    start = require_startable(begun.config, begun.folder, execution)
    assert start.weights_hash == hashlib.sha256(weights.read_bytes()).hexdigest() == begun.weights_hash
    weights.unlink()
    assert begin_run(begun.config, begun.folder, execution, start) == begun


def test_a_fold_to_redo_must_exist(begin: Begin, tmp_path: Path) -> None:
    run = begin()
    with pytest.raises(ConfigError, match="--redo-fold must name a fold from 0 to 1, got 2"):
        begin_run(run.config, run.folder, Execution(cache=tmp_path / "cache", devices="cpu", redo_fold=(2,)))


def test_a_deleted_config_is_written_again_by_the_same_command(begin: Begin) -> None:
    before = begin()
    before.folder.config.unlink()
    with pytest.raises(DamagedError, match=r"config\.json' is missing: .* `cxr train` with --run-id run again"):
        load_run(before.folder)
    assert begin() == before == load_run(before.folder)
