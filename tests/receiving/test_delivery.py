import time
from datetime import date
from pathlib import Path

import pytest

from cxr.errors import DiskFullError, RunError
from cxr.images.inbox import batch_names, list_batch
from cxr.receiving.delivery import Delivery
from cxr.receiving.instances import Instance, RefusedError
from tests.support.dicom import received
from tests.support.disks import resize_disk
from tests.support.processes import lock_holder

DATA = b"a DICOM file"


def instance(number: int, study_uid: str | None = "1.2.3", data: bytes = DATA) -> Instance:
    return Instance(f"1.2.{number}", study_uid, data)


def written(file: Path) -> tuple[int, int]:
    """Return what changes where a file is written anew; when it was last read may change."""
    return file.stat().st_ino, file.stat().st_mtime_ns


def test_a_batch_is_a_day_or_a_study(tmp_path: Path) -> None:
    today = date.today().isoformat()
    for batch_of, name in (("day", today), ("study", "1.2.3")):
        inbox = tmp_path / batch_of
        delivery = Delivery(inbox, batch_of)
        with delivery.open():
            delivery.put(instance(1))
        assert (inbox / name / "1.2.1.dcm").read_bytes() == DATA
        assert list(batch_names(inbox)) == [name], "what is on its way is no batch"
    Delivery(inbox, "day").put(instance(2, study_uid=None))
    with pytest.raises(RefusedError, match="StudyInstanceUID"):
        delivery.put(instance(3, study_uid=None))


def test_what_comes_again_is_left_as_it_is_also_on_another_day(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path, "day")
    with delivery.open():
        delivery.put(instance(1))
        (today,) = tmp_path.glob("[!.]*")
        today.rename(tmp_path / "2020-01-01")
        before = written(tmp_path / "2020-01-01" / "1.2.1.dcm")
        delivery.put(instance(1))
        with pytest.raises(RefusedError, match="another object"):
            delivery.put(instance(1, data=b"another object"))
    (file,) = received(tmp_path)
    assert written(file) == before
    assert file.read_bytes() == DATA


def test_a_study_is_scored_once_nothing_of_it_has_come_for_a_while(tmp_path: Path) -> None:
    settle_s = 0.3
    waiting = {}
    for batch_of in ("day", "study"):
        delivery = Delivery(tmp_path / batch_of, batch_of)
        with delivery.open():
            delivery.put(instance(1))
            (first,) = received(tmp_path / batch_of)
            changed = first.stat().st_mtime_ns
            time.sleep(settle_s)
            delivery.put(instance(2))
        ((name, folder),) = batch_names(tmp_path / batch_of).items()
        waiting[batch_of] = list_batch(tmp_path / batch_of, name, folder, settle_s).n_waiting
        assert first.stat().st_mtime_ns == changed
    assert waiting == {"day": 1, "study": 2}


def test_what_a_killed_process_left_half_written_is_no_batch_and_is_removed(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path, "day")
    half = tmp_path / ".receiving" / ".1.2.1.dcm.77.tmp"
    half.parent.mkdir()
    half.write_bytes(b"half")
    assert batch_names(tmp_path) == {}
    with delivery.open():
        assert not half.exists()


def test_one_process_receives_into_an_inbox(tmp_path: Path) -> None:
    (tmp_path / ".receiving").mkdir()
    with (
        lock_holder(tmp_path / ".receiving" / "lock", f"inbox {str(tmp_path)!r}"),
        pytest.raises(RunError, match=r"inbox .* is in use"),
        Delivery(tmp_path, "day").open(),
    ):
        pass


@pytest.mark.faults
def test_on_a_full_disk_nothing_is_left_and_once_there_is_room_it_is_written(small_disk: Path) -> None:
    delivery = Delivery(small_disk / "inbox", "day")
    with delivery.open():
        with pytest.raises(DiskFullError):
            delivery.put(instance(1, data=bytes(2**22)))
        assert received(small_disk / "inbox") == []
        assert sorted(path.name for path in (small_disk / "inbox" / ".receiving").iterdir()) == ["lock", "lock.json"]
        resize_disk(small_disk, "16m")
        delivery.put(instance(1, data=bytes(2**22)))
    assert len(received(small_disk / "inbox")) == 1
