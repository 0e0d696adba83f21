from pathlib import Path

import pytest

from cxr.errors import FormatError
from cxr.storage.scores_folder import MAX_FOLDER_NAME, ScoresFolder

BATCHES = [
    "monday",
    ".",
    "..",
    "_work",
    ".hidden",
    "a/b",
    "batch=1",
    "ward 3 (new)",
    "Röntgen 胸片",
    "x" * 300,
    "x" * 301,
    "胸" * 90,
    "a-0123456789abcdef",
    "100%",
]


def test_each_batch_has_a_folder_of_its_own_that_readers_see(tmp_path: Path) -> None:
    folder = ScoresFolder(tmp_path)
    names = [folder.published(batch).path.name for batch in BATCHES]
    assert len(set(names)) == len(BATCHES)
    assert all(name[0] not in "._" and "/" not in name and "=" not in name for name in names)
    assert max(map(len, names)) <= MAX_FOLDER_NAME
    assert names[0] == "monday"
    for name in names:
        (tmp_path / name).mkdir()
    assert sorted(batch.path.name for batch in folder.all_published()) == sorted(names)


def test_staged_and_held_parts_are_not_published(tmp_path: Path) -> None:
    folder = ScoresFolder(tmp_path)
    for place in (folder.staged("tiny", "1", "monday"), folder.held("tiny", "1", "monday")):
        place.path.mkdir(parents=True)
        place.part("a").touch()
    assert folder.all_published() == []
    assert list(tmp_path.glob("*/*.parquet")) == []
    assert list(folder.all_staged("tiny")) == [("1", folder.staged("tiny", "1", "monday"))]
    assert list(folder.all_staged("other")) == []
    assert folder.all_held() == folder.all_held("monday") == [folder.held("tiny", "1", "monday")]
    assert folder.all_held("tuesday") == []


@pytest.mark.parametrize("publish", [True, False])
def test_staged_parts_move_to_where_their_batch_belongs(tmp_path: Path, publish: bool) -> None:
    folder = ScoresFolder(tmp_path)
    target = folder.published("a/b") if publish else folder.held("tiny", "2", "a/b")
    assert folder.destination(folder.staged("tiny", "2", "a/b"), publish=publish) == target


def test_equal_keys_name_one_part_and_different_keys_two(tmp_path: Path) -> None:
    batch = ScoresFolder(tmp_path).published("monday")
    assert batch.part("key") == batch.part("key") != batch.part("other")


def test_scoring_runs_are_listed_latest_first_once_they_have_a_record(tmp_path: Path) -> None:
    folder = ScoresFolder(tmp_path)
    runs = [folder.scoring_run(f"2026-11-{day:02d}T03-00-00") for day in (2, 3, 1)]
    for run in runs:
        run.path.mkdir(parents=True)
    for run in runs[:2]:
        run.record.write_text("{}")
    assert folder.scoring_runs() == [runs[1], runs[0]]


@pytest.mark.parametrize("name", ["batch=monday", "_nights"])
def test_scores_of_an_older_version_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "scores" / name).mkdir(parents=True)
    with pytest.raises(FormatError, match=r"was written by cxr 0\.1.*give another --out"):
        ScoresFolder.at(tmp_path / "scores")
