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

from cxr.errors import DamagedError, DataError, FormatError, RunError
from cxr.storage import files, verified
from cxr.training.run import Run, load_run
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


def test_a_run_is_loaded_without_torch_and_scikit_learn(begin: Begin) -> None:
    words = f"from cxr.training.run import load_run; load_run(RunFolder(Path({str(begin().folder.path)!r}))).images()"
    code = f"import sys; from pathlib import Path; from cxr.storage.run_folder import RunFolder; {words}"
    check = "assert not {'torch', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=True, timeout=120)


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


def test_a_complete_record_of_another_fold_or_share_does_not_count(begin: Begin) -> None:
    run = begin()
    done = {"config_hash": run.config_hash, "fold": 0, "share": 1.0}
    for record, is_complete in ((done, True), (done | {"fold": 1}, False), (done | {"share": 0.5}, False)):
        verified.write_json(run.folder.fold(0).complete, record)
        assert run.is_complete(0) == is_complete
