"""Each published DICOM image has its report and picture once, whatever is killed, held, copied or deleted."""

import json
import os
import shutil
from pathlib import Path

import pydicom
import pytest

from cxr.dicom_results.results import write_and_send
from cxr.serving.scoring import scores
from cxr.storage.files import read_table
from tests.support.dicom import NAMES, find_instances
from tests.support.faults import killed_at_putting
from tests.support.scoring import score_to_dicom


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in find_instances(folder)}


@pytest.fixture
def place(dicom_results: Path, tmp_path: Path) -> Path:
    """A copy of the inbox, its scores and the results."""
    return Path(shutil.copytree(dicom_results.parent, tmp_path / "place"))


def test_each_dicom_image_has_one_report_and_one_picture_named_by_their_uids(dicom_results: Path) -> None:
    assert [len(find_instances(dicom_results, modality)) for modality in ("SR", "OT")] == [2, 2]
    for path in find_instances(dicom_results):
        assert path.stem == pydicom.dcmread(path).SOPInstanceUID


def test_images_that_cannot_have_results_are_named_once_with_the_reason_and_keep_their_rows(
    dicom_results: Path,
) -> None:
    lines = [json.loads(line) for line in (dicom_results / "_refused.jsonl").read_text().splitlines()]
    reasons = {line["image_id"]: line["reason"] for line in lines}
    (part,) = (dicom_results.parent / "scores" / "ward").glob("*.parquet")
    rows = read_table(part).set_index("path")
    assert reasons == {
        rows.loc["no-study.dcm", "image_id"]: "StudyInstanceUID (0020,000D) is missing or no UID",
        rows.loc["no-patient.dcm", "image_id"]: "PatientID (0010,0020) is missing",
    }
    assert (rows["status"] == "ok").all()
    log = (dicom_results.parent / "log").read_text()
    assert "2 images got a report and a picture, 2 could not" in log


def test_whose_images_they_are_stands_in_the_instances_alone(dicom_results: Path) -> None:
    place = dicom_results.parent
    others = [path for path in place.rglob("*") if path.is_file() and path.suffix != ".dcm"]
    assert {"log", "_refused.jsonl", "scoring_run.json", "report.html"} <= {path.name for path in others}
    for path in others:
        data = path.read_bytes()
        found = [name for name in NAMES if name.encode() in data or name.encode("latin-1") in data]
        assert found == [], path
    assert not [path for path in place.rglob("*") for name in NAMES if name in path.name]


def test_a_second_run_writes_nothing_and_the_inbox_is_only_read(place: Path, home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.*") if "_work" not in path.parts}
    write_and_send(score_to_dicom(home, place))
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before


def test_what_is_deleted_is_made_again_byte_for_byte(place: Path, home: Path) -> None:
    before = contents(place / "results")
    for path in find_instances(place / "results", "SR") + find_instances(place / "results", "OT")[:1]:
        path.unlink()
    write_and_send(score_to_dicom(home, place))
    assert contents(place / "results") == before


def test_a_copy_in_another_batch_gets_no_second_report(place: Path, home: Path) -> None:
    before = contents(place / "results")
    (place / "inbox" / "night").mkdir()
    shutil.copy(place / "inbox" / "ward" / "first.dcm", place / "inbox" / "night" / "again.dcm")
    write_and_send(score_to_dicom(home, place))
    assert contents(place / "results") == before


def test_a_held_batch_gets_its_results_once_it_is_released(place: Path, home: Path) -> None:
    for name in ("scores", "results"):
        shutil.rmtree(place / name)
    write_and_send(score_to_dicom(home, place, hold=True))
    assert find_instances(place / "results") == []
    run = score_to_dicom(home, place, hold=True)
    scores.release(run.scores, "ward")
    write_and_send(score_to_dicom(home, place))
    assert len(find_instances(place / "results")) == 4


def test_a_file_that_became_another_since_gets_no_report_of_the_old_row(place: Path, home: Path) -> None:
    shutil.rmtree(place / "results")
    run = score_to_dicom(home, place)
    shutil.copy(place / "inbox" / "ward" / "second.dcm", place / "inbox" / "ward" / "first.dcm")
    write_and_send(run)
    assert len(find_instances(place / "results", "SR")) == 1


@pytest.mark.faults
def test_killed_amid_a_write_it_leaves_whole_instances_and_the_next_run_makes_the_same(
    dicom_results: Path, home: Path, tmp_path: Path
) -> None:
    wanted = contents(dicom_results)
    place = Path(shutil.copytree(dicom_results.parent, tmp_path / "place"))
    shutil.rmtree(place / "results")
    assert killed_at_putting(1, home, place)
    left = contents(place / "results")
    assert len(left) == 1
    assert left.items() <= wanted.items(), "it is whole, and what an undisturbed run writes"
    assert list((place / "results" / "_work").glob(".2.25.*.tmp")), "it was killed while it wrote"
    write_and_send(score_to_dicom(home, place))
    assert contents(place / "results") == wanted
    assert not list((place / "results" / "_work").glob(".2.25.*.tmp"))


def test_a_published_image_whose_file_is_a_pipe_now_is_named_and_nothing_waits_for_it(
    home: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = place / "results"
    report = pydicom.dcmread(find_instances(results, "SR")[0])
    source = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    files = {pydicom.dcmread(path).SOPInstanceUID: path for path in (place / "inbox" / "ward").glob("*.dcm")}
    shutil.rmtree(results)
    files[source.ReferencedSOPInstanceUID].unlink()
    os.mkfifo(files[source.ReferencedSOPInstanceUID])
    write_and_send(score_to_dicom(home, place))
    assert "is not read this time: not a file: a pipe, socket or device" in caplog.text
    assert report.SOPInstanceUID not in {path.stem for path in find_instances(results, "SR")}
    assert len(find_instances(results, "SR")) == 1
