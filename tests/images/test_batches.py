"""An inbox in an object store: a real S3 server (moto's) as a process of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxr.config import ScoreConfig
from cxr.errors import DataError, UnreadableError
from cxr.images.batches import batch_names, list_batch
from cxr.images.inbox import Arrival, Batch, read_arrival, single_file
from cxr.images.synthetic import draw_inbox
from cxr.pipeline import score_inbox
from cxr.serving.scoring.pictures import find_picture
from cxr.storage import files, object_store
from tests.support.scoring import table

pytestmark = pytest.mark.faults

TREE = {
    "loose.jpeg": b"loose",
    "ward/one.jpeg": b"first",
    "ward/deeper/two ü.jpeg": b"second",
    "ward/empty.jpeg": b"",
    "ward/.DS_Store": b"Finder's",
    "other/three.jpeg": b"third",
    ".receiving/half.jpeg": b"half",
}


def filled(s3: Any, name: str, tree: dict[str, bytes]) -> Path:
    """The URL of an inbox with these objects, as a path."""
    for key, data in tree.items():
        s3.put_object(Bucket="bucket", Key=f"{name}/{key}", Body=data)
    return Path(f"s3://bucket/{name}")


def listed(inbox: Path, settle_s: float = 0) -> dict[str, Batch]:
    place = files.located(inbox)
    return {name: list_batch(place, name, where, settle_s) for name, where in batch_names(place).items()}


def contents(batches: dict[str, Batch]) -> dict[str, object]:
    return {
        name: ({arrival.path: read_arrival(arrival) for arrival in batch.arrivals}, batch.left_aside, batch.n_waiting)
        for name, batch in batches.items()
    }


def reason(arrival: Arrival) -> str:
    with pytest.raises(UnreadableError) as refused:
        read_arrival(arrival)
    return refused.value.reason


def test_a_bucket_has_the_batches_and_the_files_that_a_folder_has(
    s3: Any, tree: Callable[[dict[str, bytes]], Path]
) -> None:
    inbox = filled(s3, "same", TREE)
    s3.put_object(Bucket="bucket", Key="same/ward/")  # as consoles make a folder
    assert contents(listed(inbox)) == contents(listed(tree(TREE)))


def test_an_object_that_was_written_a_moment_ago_waits(s3: Any) -> None:
    batch = listed(filled(s3, "young", {"ward/one.jpeg": b"first"}), settle_s=60)["ward"]
    assert (batch.n_waiting, batch.arrivals) == (1, [])


def test_an_object_that_was_replaced_or_removed_since_it_was_listed_is_not_read(s3: Any) -> None:
    inbox = filled(s3, "replaced", {"ward/a.jpeg": b"first", "ward/b.jpeg": b"other"})
    first, second = listed(inbox)["ward"].arrivals
    s3.put_object(Bucket="bucket", Key="replaced/ward/a.jpeg", Body=b"again")  # of the same size
    s3.delete_object(Bucket="bucket", Key="replaced/ward/b.jpeg")
    assert (reason(first), reason(second)) == ("changed_while_read", "changed_while_read")
    assert reason(single_file(inbox / "ward/b.jpeg")) == "unreadable"
    assert read_arrival(single_file(inbox / "ward/a.jpeg")) == b"again"


def test_an_inbox_without_objects_and_a_batch_with_the_name_of_no_folder_are_refused(s3: Any) -> None:
    with pytest.raises(DataError, match="the inbox 's3://bucket/misspelt' has no object"):
        listed(Path("s3://bucket/misspelt"))
    s3.put_object(Bucket="bucket", Key="made/")
    assert listed(Path("s3://bucket/made")) == {}
    with pytest.raises(DataError, match=r"a batch needs the name of a folder, got '\.\.'"):
        listed(filled(s3, "climbs", {"../one.jpeg": b"first"}))


def test_a_long_list_comes_in_pages(s3: Any) -> None:
    place = files.located(filled(s3, "long", {f"{k}.jpeg": b"x" for k in range(5)}))
    pages = list(object_store._pages(place, MaxKeys=2))
    keys = [facts["Key"] for page in pages for facts in page["Contents"]]
    assert (len(pages), keys) == (3, [f"long/{k}.jpeg" for k in range(5)])


def test_rows_from_a_bucket_equal_those_from_a_folder_and_nothing_is_read_or_scored_twice(
    s3: Any, s3_log: Path, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "inbox"
    draw_inbox(folder, n_images=4, seed=5)
    data = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    inbox = filled(s3, "inbox", data)

    def scored(inbox: Path, out: str) -> pd.DataFrame:
        config = ScoreConfig(
            name="tiny", models=home / "models", cache=home / "cache", out=tmp_path / out, settle=0, compile="off"
        )
        score_inbox(inbox, config, lambda *_: [])
        return table(tmp_path / out).drop(columns="changed_ns")

    rows = scored(inbox, "bucket")
    pd.testing.assert_frame_equal(rows, scored(folder, "folder"))
    n_read = s3_log.read_text().count('"GET /bucket/inbox/')
    pd.testing.assert_frame_equal(scored(inbox, "bucket"), rows)
    assert s3_log.read_text().count('"GET /bucket/inbox/') == n_read, "what is known is not read again"
    image = next(row for row in table(tmp_path / "bucket").to_dict("records") if row["status"] == "ok")
    assert find_picture(inbox, image["batch"], image, 64) is not None
