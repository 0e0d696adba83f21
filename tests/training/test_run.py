import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr.config import Execution
from cxr.dataset.known_patients import COUNTED
from cxr.dataset.patients import KNOWN
from cxr.errors import ConfigError, DamagedError, DataError, FoldError, FormatError, RunError
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, begin_run, load_run, require_startable
from tests.support.miniatures import nih
from tests.support.processes import lock_holder

Begin = Callable[..., Run]


def test_a_run_folder_explains_itself(begin: Begin) -> None:
    run = begin()
    record = files.read_record(run.folder.config)
    assert record["config"] == run.config.as_dict()
    assert record["classes"] == ["NORMAL", "PNEUMONIA"]
    assert record["positive"] == "PNEUMONIA"
    assert record["images"] == {"found": 80, "unreadable": 1, "duplicate": 3, "used": 76}
    assert record["code"].keys() >= {"cxr", "cxr_source_sha256", "requirements_lock_sha256", "torch", "python"}
    names = {path.name for path in run.folder.path.iterdir()}
    assert names == {
        "config.json",
        "data.json",
        "run_id",
        "left_aside.parquet",
        "manifest.parquet",
        "near_duplicates.parquet",
        "folds.parquet",
        "leakage_certificate.json",
        "events.jsonl",
        "SHA256SUMS",
    }
    assert files.read_table(run.folder.folds).columns.tolist() == ["image_id", "path", "label", "group_id", "fold"]
    assert load_run(run.folder) == run


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


def test_a_fold_that_another_process_trains_is_not_forgotten(begin: Begin) -> None:
    run = begin()
    verified.write_json(run.folder.fold(0).epochs, {})
    with (
        lock_holder(run.folder.fold(0).lock, "fold 0") as holder,
        pytest.raises(RunError, match=f"fold 0 of run run is in use by process {holder.pid}"),
    ):
        run.forget_fold(0)
    assert run.folder.fold(0).epochs.exists()
    run.forget_fold(0)
    assert not run.folder.fold(0).epochs.exists()


def test_pretrained_weights_are_read_once_for_all_checks(begin: Begin, weights_file: str, tmp_path: Path) -> None:
    weights = Path(shutil.copy(weights_file, tmp_path / "own.pth"))
    begun = begin(weights=str(weights), trainable="head")
    execution = Execution(cache=begun.cache, devices="cpu")
    start = require_startable(begun.config, begun.folder, execution)
    assert start.weights_hash == hashlib.sha256(weights.read_bytes()).hexdigest() == begun.weights_hash
    weights.unlink()
    assert begin_run(begun.config, begun.folder, execution, start) == begun


def test_a_run_survives_its_record(begin: Begin) -> None:
    run = begin(trainable="all", learning_rate=0.00123, precision="fp32")
    assert Run.from_record(run.folder, json.loads(json.dumps(run.to_record()))) == run


def test_folds_are_certified_once_and_no_table_travels_with_the_run(begin: Begin) -> None:
    run = begin()
    images = run.images()
    expected = images.copy()
    images["fold"] = -1
    run.folder.certificate.unlink()
    pd.testing.assert_frame_equal(run.images(), expected)
    sent = pickle.loads(pickle.dumps(run))  # noqa: S301 our own, as it goes to another process
    assert sent == run
    with pytest.raises(DamagedError, match=r"leakage_certificate\.json' is missing"):
        sent.images()


def test_a_run_is_loaded_without_torch(begin: Begin) -> None:
    words = f"from cxr.training.run import load_run; load_run(RunFolder(Path({str(begin().folder.path)!r}))).images()"
    code = f"import sys; from pathlib import Path; from cxr.storage.run_folder import RunFolder; {words}"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True, timeout=120)


def test_a_fold_to_redo_must_exist(begin: Begin, tmp_path: Path) -> None:
    run = begin()
    with pytest.raises(ConfigError, match="--redo-fold must name a fold from 0 to 1, got 2"):
        begin_run(run.config, run.folder, Execution(cache=tmp_path / "cache", devices="cpu", redo_fold=(2,)))


def test_images_are_used_once_each_and_carry_fold_and_subtype(begin: Begin) -> None:
    run = begin()
    images, manifest = run.images(), files.read_table(run.folder.manifest)
    assert images["path"].tolist() == sorted(manifest.loc[manifest["status"] == "used", "path"])
    assert set(images["subtype"].dropna()) == {"bacteria", "virus"}


def test_a_lost_cache_is_made_again_from_the_same_images(begin: Begin, tmp_path: Path) -> None:
    run = begin()
    before = run.squares(run.images())
    shutil.rmtree(tmp_path / "cache")
    np.testing.assert_array_equal(run.squares(run.images()), before)


def test_an_image_changed_since_is_not_taken_for_the_old_one(begin: Begin, sample: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(sample, own)
    run = begin(data=str(own))
    shutil.rmtree(tmp_path / "cache")
    (own / run.images()["path"][0]).write_bytes(b"something else")
    with pytest.raises(DataError, match="is missing or was changed since the run was begun"):
        run.squares(run.images())


def test_a_holdout_is_never_trained_on_nor_predicted(begin: Begin) -> None:
    run = begin(holdout="test")
    manifest = files.read_table(run.folder.manifest)
    assert not set(run.images()["path"]) & set(manifest.loc[manifest["split"] == "test", "path"])
    assert pd.Series(run.images()["path"]).str.startswith(("train/", "val/")).all()


def test_a_run_of_an_older_version_is_refused_in_one_sentence(begin: Begin) -> None:
    run = begin()
    record = files.read_json(run.folder.config)
    for older in (record | {"format": 2}, {name: value for name, value in record.items() if name != "format"}):
        verified.write_json(run.folder.config, older)
        with pytest.raises(FormatError, match=r"config\.json' has .*, this cxr reads format 3 and 4: make it again"):
            load_run(run.folder)


def with_identity(record: dict[str, Any], **fields: object) -> dict[str, Any]:
    return record | {"identity": record["identity"] | fields}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda record: record | {"config": record["config"] | {"size": 64}}, "identity"),
        (lambda record: with_identity(record, size=64), "config_hash, identity"),
        (lambda record: with_identity(record, data="0" * 64), "config_hash"),
        (lambda record: record | {"config_hash": "0" * 64}, "config_hash"),
        (lambda record: record | {"positive": "NORMAL"}, "positive"),
        (lambda record: record | {"classes": record["classes"][::-1]}, "positive"),
        (lambda record: {name: value for name, value in record.items() if name != "cache"}, "KeyError 'cache'"),
        (lambda record: record | {"config": None}, "TypeError .*"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(
    begin: Begin, change: Callable[[dict[str, Any]], dict[str, Any]], named: str
) -> None:
    folder = begin().folder
    verified.write_json(folder.config, change(files.read_json(folder.config)))
    with pytest.raises(DamagedError, match=rf"config\.json' contradicts itself \({named}\): put back a copy"):
        load_run(folder)


@pytest.mark.parametrize("field", ["classes", "positive", "begun_at"])
def test_a_config_that_was_edited_by_hand_is_refused(begin: Begin, field: str) -> None:
    folder = begin().folder
    record = files.read_json(folder.config)
    files.write_json(folder.config, record | {field: record[field][::-1]})
    with pytest.raises(
        DamagedError, match=r"config\.json' was changed since cxr wrote it: put back a copy, or delete it"
    ):
        load_run(folder)


def test_a_deleted_config_is_written_again_by_the_same_command(begin: Begin) -> None:
    before = begin()
    before.folder.config.unlink()
    with pytest.raises(DamagedError, match=r"config\.json' is missing: .* `cxr train` with --run-id run again"):
        load_run(before.folder)
    assert begin() == before == load_run(before.folder)


def test_a_complete_record_of_another_fold_or_share_does_not_count(begin: Begin) -> None:
    run = begin()
    done = {"config_hash": run.config_hash, "fold": 0, "share": 1.0}
    for record, is_complete in ((done, True), (done | {"fold": 1}, False), (done | {"share": 0.5}, False)):
        verified.write_json(run.folder.fold(0).complete, record)
        assert run.is_complete(0) == is_complete
