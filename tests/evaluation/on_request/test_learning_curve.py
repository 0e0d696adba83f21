import shutil
from dataclasses import replace

import pytest

from benchmarks.report_numbers import disagreements
from cxr.cli.app import app
from cxr.errors import ConfigError
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run
from tests.support.runs import Finished
from tests.support.shared import NewFolder


@pytest.fixture(scope="module")
def folder(finished: Finished, new_folder: NewFolder) -> RunFolder:
    """A finished run with a learning curve of one share."""
    place = new_folder("learning")
    shutil.copytree(finished().folder.path, place / "run")
    app(["learning-curve", "run", "--share", "0.5", "--experiments", str(place), "--device", "cpu"])
    return RunFolder(place / "run")


def test_a_share_is_of_patients_by_class_and_part_of_each_larger_share(folder: RunFolder) -> None:
    run = load_run(folder)
    images = {share: replace(run, share=share).training_images(0) for share in (0.1, 0.3, 0.7, 1.0)}
    patients = {share: set(part["group_id"]) for share, part in images.items()}
    assert patients[0.1] < patients[0.3] < patients[0.7] < patients[1.0]
    assert not patients[1.0] & set(run.images().query("fold == 0")["group_id"])
    for share, part in images.items():
        assert set(part["label"]) == set(run.classes)
        by_class = part.groupby("label")["group_id"].nunique() / images[1.0].groupby("label")["group_id"].nunique()
        assert by_class.tolist() == pytest.approx([share] * 2, abs=0.2)
        whole = images[1.0][images[1.0]["group_id"].isin(patients[share])]
        assert len(part) == len(whole), "all images of a patient come along"


def test_shares_are_evaluated_on_the_images_of_the_run_with_networks_of_their_own(folder: RunFolder) -> None:
    table = files.read_table(folder.table("learning_curve")).set_index(["share", "metric"])
    pooled = files.read_table(folder.metrics).query("scope == 'pooled'").set_index("metric")
    assert table.loc[(1.0, "roc_auc"), "pooled"] == pooled.loc["roc_auc", "value"]
    assert table.loc[(0.5, "roc_auc"), "n_images"] < table.loc[(1.0, "roc_auc"), "n_images"]
    for fold in range(2):
        part, whole = (files.read_table(f.predictions) for f in (folder.fold_of_share(0.5, fold), folder.fold(fold)))
        assert part["path"].tolist() == whole["path"].tolist()
        assert (part["logit_NORMAL"] != whole["logit_NORMAL"]).all()
        done = files.read_json(folder.fold_of_share(0.5, fold).complete)
        share = replace(load_run(folder), share=0.5)
        assert done["n_training_images"] == len(share.training_images(fold))


def test_the_report_shows_the_curve_and_a_finished_share_is_not_trained_again(folder: RunFolder) -> None:
    assert "figures/learning_curve.svg" in folder.report.read_text()
    assert disagreements(folder.path)[1] == []
    weights = folder.fold_of_share(0.5, 0).weights
    before = weights.stat().st_mtime_ns
    app(["learning-curve", str(folder.path), "--share", "0.5", "--device", "cpu"])
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize("share", ["0", "1", "1.5"])
def test_a_share_out_of_range_is_refused(folder: RunFolder, share: str) -> None:
    with pytest.raises(ConfigError, match=f"--share must lie .*, got {share}"):
        app(["learning-curve", str(folder.path), "--share", share])
