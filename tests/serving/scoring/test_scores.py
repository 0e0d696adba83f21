from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet
import pytest

from cxr.errors import FormatError, RunError
from cxr.serving.scoring import scores
from cxr.serving.scoring.scores import Seen, scores_table
from cxr.storage import files
from cxr.storage.scores_folder import ScoresFolder

CLASSES = ["NORMAL", "PNEUMONIA"]
HOSTILE = [
    ".",
    "%2E",
    "...",
    "night 1",
    "a\nb",
    "100%",
    "%41",
    'it\'s "quoted"; --',
    "a=b&c",
    "*",
    "[a-z]?",
    "{x,y}",
    "~",
    "x" * 250,
    "é" * 125,
    "a" + "é" * 124,
    "x" * 249 + "y",
    "Röntgen 胸片",
    r"caf\xe9",
    "-rf",
    "_night",
    "NULL",
    "__HIVE_DEFAULT_PARTITION__",
    "2026-11-23",
    "20261123",
    "007",
    "1e3",
    "true",
    " ",
]


def ok_row(path: str = "1.png", *, batch: str = "ward", version: str = "1", **fields: object) -> dict[str, object]:
    row = {
        "batch": batch,
        "path": path,
        "image_id": f"id of {path}",
        "model": "m",
        "model_version": version,
        "status": "ok",
        "probability_NORMAL": 0.25,
        "probability_PNEUMONIA": 0.75,
        "predicted_label": "PNEUMONIA",
        "fold_spread": 0.1,
        "in_training": False,
        "width": 640,
        "height": 480,
        "novelty": 3.5,
        "unlike_training": False,
        "n_bytes": 7,
        "changed_ns": 10**18 + 1,
        "scored_at": datetime(2026, 11, 23, 1, 2, 3, 4, tzinfo=UTC),
    }
    return row | fields


def refused_row(path: str = "1.txt", **fields: object) -> dict[str, object]:
    kept = ["batch", "path", "image_id", "model", "model_version", "n_bytes", "changed_ns", "scored_at"]
    whole = {name: value for name, value in ok_row(path, **fields).items() if name in kept}
    return whole | {"status": "quarantined", "reason": "not_an_image", "detail": "it is text"}


def stage(folder: ScoresFolder, *rows: dict[str, object]) -> None:
    """Stage rows of one batch and version as one part."""
    place = folder.staged("m", str(rows[0]["model_version"]), str(rows[0]["batch"]))
    scores.stage(place.part(str(rows)), scores_table(rows, CLASSES))


def put(folder: ScoresFolder, *rows: dict[str, object], publish: bool = True) -> None:
    stage(folder, *rows)
    place = folder.staged("m", str(rows[0]["model_version"]), str(rows[0]["batch"]))
    scores.settle(folder, place, publish=publish)


def published(folder: ScoresFolder) -> list[str]:
    """The paths that all of the usual readers see, without an option."""
    if not list(folder.path.glob("[!_]*/*.parquet")):
        assert pyarrow.dataset.dataset(folder.path).files == []
        return []
    by_arrow = pyarrow.dataset.dataset(folder.path).to_table()["path"].to_pylist()
    by_duckdb = [path for (path,) in duckdb.sql(f"SELECT path FROM {in_readme(folder)}").fetchall()]  # noqa: S608
    assert sorted(by_arrow) == sorted(by_duckdb) == sorted(pd.read_parquet(folder.path)["path"])
    return sorted(by_arrow)


def in_readme(folder: ScoresFolder) -> str:
    return f"read_parquet('{folder.path}/*/*.parquet', union_by_name=true)"


@pytest.fixture
def folder(tmp_path: Path) -> ScoresFolder:
    (tmp_path / "scores").mkdir()
    return ScoresFolder(tmp_path / "scores")


def test_a_table_has_the_same_types_whatever_is_missing_in_it(tmp_path: Path) -> None:
    unread = refused_row("2", image_id=None)
    tables = [scores_table(rows, CLASSES) for rows in ([], [ok_row()], [refused_row(), unread], [ok_row(), unread])]
    for number, table in enumerate(tables):
        pd.testing.assert_series_equal(table.dtypes, tables[0].dtypes)
        files.write_table(tmp_path / f"{number}.parquet", table)
        pd.testing.assert_frame_equal(files.read_table(tmp_path / f"{number}.parquet"), table)
    on_disk = [pyarrow.parquet.read_schema(file).remove_metadata() for file in tmp_path.iterdir()]
    assert all(schema == on_disk[0] for schema in on_disk)


def test_a_row_comes_back_as_it_was_and_what_was_not_measured_is_missing() -> None:
    whole, refused = scores_table([ok_row(), refused_row()], CLASSES).to_dict("records")
    given = ok_row()
    assert {name: whole[name] for name in given} == given
    measured = [*scores.MEASURED, "probability_NORMAL", "probability_PNEUMONIA", "predicted_label", "in_training"]
    measured.append("unlike_training")
    assert [name for name in measured if not pd.isna(refused[name])] == []
    assert (refused["status"], refused["reason"], refused["n_bytes"]) == ("quarantined", "not_an_image", 7)
    assert pd.isna(whole["reason"])


def test_there_is_a_probability_for_each_of_three_classes() -> None:
    columns = list(scores_table([], ["a", "b", "c"]).columns)
    assert [name for name in columns if name.startswith("probability_")] == [f"probability_{c}" for c in "abc"]
    assert columns[: len(scores.IDENTITY)] == scores.IDENTITY
    assert len(set(columns)) == len(columns)


def test_readers_see_published_rows_and_no_staged_or_held_ones(folder: ScoresFolder) -> None:
    stage(folder, ok_row("1"))
    put(folder, ok_row("2", batch="odd"), publish=False)
    assert published(folder) == []
    put(folder, ok_row("3", batch="."), refused_row("4", batch="."))
    assert published(folder) == ["3", "4"]
    scores.settle(folder, folder.staged("m", "1", "ward"), publish=True)
    assert published(folder) == ["1", "3", "4"]


def test_nothing_is_staged_of_an_empty_table(folder: ScoresFolder) -> None:
    place = folder.staged("m", "1", "ward")
    scores.stage(place.part(""), scores_table([], CLASSES))
    assert place.parts() == []


def test_a_decision_moves_every_part_and_leaves_nothing_behind(folder: ScoresFolder) -> None:
    place = folder.staged("m", "1", "ward")
    stage(folder, ok_row("1"))
    stage(folder, ok_row("2"), ok_row("3"))
    assert sorted(scores.read_parts(place)["path"]) == ["1", "2", "3"]
    scores.settle(folder, place, publish=False)
    assert not place.path.exists()
    assert len(folder.held("m", "1", "ward").parts()) == 2
    assert folder.published("ward").parts() == []


def test_a_batch_is_added_to_by_later_scoring_runs_and_versions(folder: ScoresFolder) -> None:
    put(folder, ok_row("1"))
    put(folder, ok_row("2"))
    put(folder, ok_row("1", version="2"))
    assert published(folder) == ["1", "1", "2"]


@pytest.mark.parametrize("publish", [True, False])
@pytest.mark.parametrize("n_moved", [0, 1, 2])
def test_the_next_run_finishes_a_decision_that_a_killed_run_had_written(
    folder: ScoresFolder, publish: bool, n_moved: int
) -> None:
    place = folder.staged("m", "1", "ward")
    target = folder.published("ward") if publish else folder.held("m", "1", "ward")
    stage(folder, ok_row("1"))
    stage(folder, ok_row("2"))
    files.write_json(place.decision, {"publish": publish, "at": files.now()})
    target.path.mkdir(parents=True)
    for part in place.parts()[:n_moved]:
        part.rename(target.path / part.name)
    for _ in range(2):
        scores.recover(folder, "m", "2")
        assert sorted(scores.read_parts(target)["path"]) == ["1", "2"]
        assert published(folder) == (["1", "2"] if publish else [])
        assert not place.path.exists()


def test_what_a_killed_run_had_staged_is_kept_for_the_version_that_goes_on_and_dropped_for_another(
    folder: ScoresFolder,
) -> None:
    stage(folder, ok_row("1"))
    stage(folder, ok_row("1", version="2"))
    for version in "12":
        (folder.staged("m", version, "ward").path / ".part-x.parquet.7.tmp").write_bytes(b"half a")
    scores.recover(folder, "m", "2")
    assert not folder.staged("m", "1", "ward").path.exists()
    kept = folder.staged("m", "2", "ward")
    assert list(kept.path.iterdir()) == kept.parts()
    assert len(kept.parts()) == 1


def test_nothing_of_another_model_is_dropped(folder: ScoresFolder) -> None:
    place = folder.staged("another", "1", "ward")
    scores.stage(place.part("another"), scores_table([ok_row(model="another")], CLASSES))
    scores.recover(folder, "m", "2")
    assert len(place.parts()) == 1


def test_release_publishes_what_is_held_of_a_batch_by_every_version(folder: ScoresFolder) -> None:
    put(folder, ok_row("1"), refused_row("2"), publish=False)
    put(folder, ok_row("1", version="2"), publish=False)
    put(folder, ok_row("3", batch="other"), publish=False)
    assert scores.release(folder, "ward") == 3
    assert published(folder) == ["1", "1", "2"]
    with pytest.raises(RunError, match=r"no rows of batch 'ward' are held; held batches: 'other'\."):
        scores.release(folder, "ward")


def test_a_batch_of_any_name_is_released_and_no_other_with_it(folder: ScoresFolder) -> None:
    for batch in HOSTILE:
        put(folder, ok_row("1", batch=batch), publish=False)
    for number, batch in enumerate(HOSTILE, start=1):
        assert scores.release(folder, batch) == 1
        assert len(folder.all_held()) == len(HOSTILE) - number
        assert Seen(folder, "m", "1", batch).has_content("1", "id of 1")


def test_releasing_an_unknown_batch_names_what_is_held(folder: ScoresFolder) -> None:
    with pytest.raises(RunError, match=r"no rows of batch 'x' are held; held batches: none\."):
        scores.release(folder, "x")
    put(folder, ok_row("1", batch="a\nb"), publish=False)
    put(folder, ok_row("1", batch="."), publish=False)
    with pytest.raises(RunError, match=r"no rows of batch 'x' are held; held batches: '\.', 'a\\nb'\."):
        scores.release(folder, "x")
    assert published(folder) == []


def test_what_was_scored_is_seen_wherever_it_stands(folder: ScoresFolder) -> None:
    put(folder, ok_row("published"))
    put(folder, ok_row("held"), refused_row("refused"), publish=False)
    stage(folder, ok_row("staged"), refused_row("unread", image_id=None))
    seen = Seen(folder, "m", "1", "ward")
    for path in ("published", "held", "staged", "refused"):
        assert seen.has_path(path)
        assert not seen.has_path(f"another {path}")
        assert seen.has_content(path, f"id of {path}")
        assert not seen.has_content(path, "another id")
        assert not seen.has_content(f"another {path}", f"id of {path}")
        assert (seen.answer(f"id of {path}") is None) == (path == "refused")
    assert seen.has_path("unread")
    assert not seen.has_content("unread", None)


def test_a_refusal_is_seen_for_the_same_content_and_reason_alone(folder: ScoresFolder) -> None:
    put(folder, refused_row("text"), refused_row("unread", image_id=None) | {"reason": "too_large"}, ok_row("image"))
    seen = Seen(folder, "m", "1", "ward")
    assert seen.has_refusal("text", "id of text", "not_an_image")
    assert seen.has_refusal("unread", None, "too_large")
    assert not seen.has_refusal("text", "another id", "not_an_image")
    assert not seen.has_refusal("text", "id of text", "blank")
    assert not seen.has_refusal("unread", None, "not_a_file")
    assert not seen.has_refusal("image", "id of image", "not_an_image")


@pytest.mark.parametrize("reason", scores.PASSING)
def test_a_content_that_was_refused_for_a_passing_reason_is_still_to_be_scored(
    folder: ScoresFolder, reason: str
) -> None:
    put(folder, refused_row("1") | {"reason": reason})
    seen = Seen(folder, "m", "1", "ward")
    assert not seen.has_content("1", "id of 1")
    assert seen.has_refusal("1", "id of 1", reason), "and is not quarantined twice for it"


@pytest.mark.parametrize(("name", "version", "batch"), [("m", "2", "ward"), ("n", "1", "ward"), ("m", "1", "day")])
def test_what_another_model_or_version_scored_or_in_another_batch_is_not_seen(
    folder: ScoresFolder, name: str, version: str, batch: str
) -> None:
    put(folder, ok_row("published"))
    put(folder, ok_row("held"), publish=False)
    stage(folder, ok_row("staged"))
    seen = Seen(folder, name, version, batch)
    for path in ("published", "held", "staged"):
        assert not seen.has_path(path)
        assert not seen.has_content(path, f"id of {path}")
        assert seen.answer(f"id of {path}") is None


def test_the_answer_for_a_copy_is_the_stored_one(folder: ScoresFolder) -> None:
    put(folder, ok_row("1", version="0", probability_PNEUMONIA=0.1))
    put(folder, ok_row("1"), ok_row("2", image_id="another", probability_PNEUMONIA=0.2))
    put(folder, refused_row("3"))
    stage(folder, ok_row("4", image_id="fourth"))
    seen = Seen(folder, "m", "1", "ward")
    answer = seen.answer("id of 1")
    assert answer is not None
    assert {"batch", "path", "image_id", "status", "n_bytes", "changed_ns", "scored_at"}.isdisjoint(answer)
    expected = scores_table([ok_row("copy", image_id="id of 1")], CLASSES)
    own = {name: value for name, value in ok_row("copy", image_id="id of 1").items() if name not in answer}
    pd.testing.assert_frame_equal(scores_table([own | answer], CLASSES), expected)
    assert seen.answer("id of 3") is None, "it was refused"


def test_rows_are_seen_from_the_moment_they_are_made(folder: ScoresFolder) -> None:
    seen = Seen(folder, "m", "1", "ward")
    seen.add(scores_table([], CLASSES))
    seen.add(scores_table([ok_row("1"), refused_row("2", image_id=None)], CLASSES))
    assert seen.has_path("2")
    assert seen.has_content("1", "id of 1")


def test_every_batch_has_a_folder_of_its_own_that_a_disk_can_hold(folder: ScoresFolder) -> None:
    names = [folder.published(batch).path.name for batch in HOSTILE]
    assert len(set(names)) == len(HOSTILE)
    assert max(len(name.encode()) for name in names) <= 255
    assert all(name[0] not in "._" and "=" not in name and "/" not in name and name.isprintable() for name in names)
    for place in (folder.published, lambda batch: folder.held("m", "1", batch)):
        assert place(".").path.parent == place("ward").path.parent


def test_no_batch_can_have_the_name_of_anothers_folder(folder: ScoresFolder) -> None:
    long = "x" * 250
    alike = folder.published(long).path.name
    assert folder.published(alike).path != folder.published(long).path


def read_by_duckdb(folder: ScoresFolder) -> list[tuple[object, ...]]:
    query = f"SELECT batch, path FROM {in_readme(folder)} ORDER BY path"  # noqa: S608
    return duckdb.sql(query).fetchall()


@pytest.mark.parametrize("batch", HOSTILE, ids=lambda batch: ascii(batch)[1:30])
def test_duckdb_reads_a_batchs_name_as_the_text_it_is(folder: ScoresFolder, batch: str) -> None:
    put(folder, ok_row("1", batch=batch))
    assert read_by_duckdb(folder) == [(batch, "1")]


def test_readers_see_all_batches_together_and_their_names_as_text(folder: ScoresFolder) -> None:
    rows = [(batch, f"{number:03}") for number, batch in enumerate([*HOSTILE, "007", "2026-11-23", "a=b"])]
    for batch, path in rows:
        put(folder, ok_row(path, batch=batch))
    assert read_by_duckdb(folder) == rows
    by_pandas = pd.read_parquet(folder.path).sort_values("path")
    assert list(zip(by_pandas["batch"], by_pandas["path"], strict=True)) == rows


@pytest.mark.parametrize("left", ["batch=ward-3", "_nights"])
def test_scores_of_an_older_version_are_refused(tmp_path: Path, left: str) -> None:
    (tmp_path / left).mkdir()
    with pytest.raises(FormatError, match=r"was written by cxr 0\.1"):
        ScoresFolder.at(tmp_path)


def test_batches_are_listed_by_state_and_version_the_latest_first(folder: ScoresFolder) -> None:
    assert scores.list_batches(folder).empty
    assert scores.read_batch(folder, "ward").empty
    later = datetime(2026, 11, 24, tzinfo=UTC)
    put(folder, ok_row("1"), refused_row("2"), refused_row("3") | {"reason": "other_file"})
    put(folder, ok_row("1", version="2", scored_at=later), publish=False)
    put(folder, ok_row("1", batch="a\nb"))
    listed = scores.list_batches(folder)
    columns = ["batch", "state", "model_version", "images", "quarantined", "other_files"]
    first, *others = listed[columns].to_numpy().tolist()
    assert first == ["ward", "held", "2", 1, 0, 0]
    assert sorted(others) == [["a\nb", "published", "1", 1, 0, 0], ["ward", "published", "1", 1, 1, 1]]
    rows = scores.read_batch(folder, "ward")
    assert sorted(zip(rows["path"], rows["state"], strict=True)) == [
        ("1", "held"),
        ("1", "published"),
        ("2", "published"),
        ("3", "published"),
    ]


def test_scores_from_before_a_column_was_added_are_read_with_those_of_after(folder: ScoresFolder) -> None:
    put(folder, ok_row("1", unlike_training=True))
    (part,) = folder.published("ward").parts()
    files.write_table(part.with_name("part-before.parquet"), files.read_table(part).drop(columns="unlike_training"))
    for rows in (scores.read_batch(folder, "ward"), scores.read_parts(folder.published("ward"))):
        assert sorted(rows["unlike_training"].astype("object").fillna("unknown"), key=str) == [True, "unknown"]
    assert len(duckdb.sql(f"SELECT unlike_training FROM {in_readme(folder)}").fetchall()) == 2  # noqa: S608
    part.unlink()
    for rows in (scores.read_batch(folder, "ward"), scores.read_parts(folder.published("ward"))):
        assert rows["unlike_training"].isna().tolist() == [True]
    answer = Seen(folder, "m", "1", "ward").answer("id of 1")
    assert answer is not None
    copy = ok_row("2", image_id="id of 1", unlike_training=None) | answer
    assert pd.isna(scores_table([copy], CLASSES)["unlike_training"][0])
