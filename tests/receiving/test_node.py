import logging
import random
import re
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from cxr.errors import ConfigError
from cxr.images.dicom.file import DECODED
from cxr.receiving import bounds
from cxr.receiving.delivery import Delivery
from cxr.receiving.instances import CANNOT_UNDERSTAND, DOES_NOT_MATCH, OUT_OF_RESOURCES, STORED
from cxr.receiving.node import Address, Node
from tests.support.dicom import DX, Cable, associated, dcmtk, listening, needs_dcmtk, received, write_images
from tests.support.disks import disk_of, resize_disk
from tests.support.images import make_dicom
from tests.support.processes import wait_for

CT = "1.2.840.10008.5.1.4.1.1.2"
SECRETS = ("Doe", "SECRET-0815", "19700101", "doe-")


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("node") / "inbox"


@pytest.fixture(scope="module")
def port(inbox: Path) -> Iterator[int]:
    """The port of a node that takes data sets of 1 MiB from anybody."""
    with listening(inbox, max_mb=1) as (_, port):
        yield port


def store(association: Association, data: bytes, uid: str = "", sop_class: str = DX) -> int:
    """Send the data set of a DICOM file as a request says; return the status, 0 if there is no answer."""
    image = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data), force=True)
    body = data[data.index(b"DICM") + 4 + 12 + image.file_meta[0x00020000].value :] if b"DICM" in data else data
    return send(association, body, uid or str(image.SOPInstanceUID), sop_class)


def send(association: Association, body: bytes, uid: str, sop_class: str = DX) -> int:
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, uid
    request._dataset = pydicom.filebase.DicomBytesIO(body)
    (context,) = association.accepted_contexts
    association._reactor_checkpoint.clear()  # else pynetdicom takes the answer
    wait_for(lambda: association._is_paused, "pynetdicom's reactor to pause")
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return -1 if answer is None else answer.Status


# Against dcmtk's programs


@needs_dcmtk
def test_what_storescu_sends_is_in_the_inbox_as_it_was_sent_once_and_without_a_name(
    port: int, inbox: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    images = write_images(tmp_path / "sent", 5)
    before = len(received(inbox))
    code, printed = dcmtk("storescu", port, *images)
    assert code == 0, printed
    assert printed.count("Received Store Response (Success)") == 5
    files = received(inbox)[before:] if before else received(inbox)
    uids = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID: path for path in images}
    assert {path.stem for path in files} == set(uids)
    for path in files:
        assert pydicom.dcmread(path) == pydicom.dcmread(uids[path.stem])
    facts = [path.stat() for path in files]
    code, printed = dcmtk("storescu", port, *images)
    assert (code, printed.count("(Success)")) == (0, 5)
    assert [path.stat() for path in files] == facts
    assert not [word for word in SECRETS if word in caplog.text or word in " ".join(map(str, inbox.rglob("*")))]
    assert "PACS: 5 images stored" in caplog.text


@needs_dcmtk
def test_echoscu_is_answered_and_a_wrong_title_is_not(port: int) -> None:
    assert dcmtk("echoscu", port)[0] == 0
    code, printed = dcmtk("echoscu", port, called="OTHER")
    assert code != 0
    assert "Called AE Title Not Recognized" in printed


@needs_dcmtk
def test_callers_that_are_not_named_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = write_images(tmp_path / "sent", 1)
    with listening(tmp_path / "inbox", callers=("PACS", "WARD 3")) as (_, port):
        code, printed = dcmtk("storescu", port, *images, calling="STRANGER")
        assert code != 0
        assert "Calling AE Title Not Recognized" in printed
        assert received(tmp_path / "inbox") == []
        assert "STRANGER: may not call" in caplog.text
        assert dcmtk("storescu", port, *images, calling="WARD 3")[0] == 0
    assert len(received(tmp_path / "inbox")) == 1


@needs_dcmtk
def test_a_cable_cut_half_way_leaves_the_images_before_and_nothing_of_the_one_under_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = write_images(tmp_path / "sent", 4)
    with listening(tmp_path / "inbox") as (_, port):
        with Cable(port, 2 * images[0].stat().st_size + 4096) as cable, ThreadPoolExecutor() as pool:
            sender = pool.submit(dcmtk, "storescu", cable.port, "--required", *images)
            assert cable.has_stopped.wait(60)
            cable.cut()
        _, printed = sender.result()
        wait_for(
            lambda: "before its last image was confirmed" in caplog.text, "the end of the connection", timeout_s=20
        )
        assert len(received(tmp_path / "inbox")) == printed.count("Received Store Response (Success)") == 2
        assert [path.name for path in (tmp_path / "inbox" / ".receiving").glob(".*")] == []
        assert dcmtk("storescu", port, *images)[0] == 0, "the same again, whole"
    assert len(received(tmp_path / "inbox")) == 4


@needs_dcmtk
def test_at_its_end_the_node_stores_the_image_under_way_confirms_it_and_takes_no_other(tmp_path: Path) -> None:
    images = write_images(tmp_path / "sent", 3)
    delivery = Delivery(tmp_path / "inbox", "day")
    node = Node(Address(port=0), delivery, 64)
    with delivery.open(), ThreadPoolExecutor() as pool:
        port = node.start()
        with Cable(port, 400) as cable:  # between the request and its data set
            sender = pool.submit(dcmtk, "storescu", cable.port, "--required", "--no-halt", *images)
            wait_for(
                lambda: any(talk.is_under_way for talk in node._talks.values()),
                "the first image to begin",
                timeout_s=60,
            )
            end = pool.submit(node.stop)
            time.sleep(0.8)  # it has stopped to listen
            assert not end.done(), "it waits for the image"
            cable.go_on()
            _, printed = sender.result()
            end.result()
        assert dcmtk("echoscu", port)[0] != 0
    assert printed.count("Received Store Response (Success)") == 1
    assert len(received(tmp_path / "inbox")) == 1


@needs_dcmtk
@pytest.mark.faults
def test_a_full_disk_is_answered_with_out_of_resources_and_nothing_is_kept(tmp_path: Path) -> None:
    images = write_images(tmp_path / "sent", 20)
    with disk_of("200k", tmp_path / "disk") as disk, listening(disk / "inbox") as (_, port):
        code, printed = dcmtk("storescu", port, "--no-halt", *images)
        assert code != 0 or "OutOfResources" in printed
        n_stored = printed.count("Received Store Response (Success)")
        assert 0 < n_stored < 20
        assert printed.count("OutOfResources") == 20 - n_stored
        assert len(received(disk / "inbox")) == n_stored
        assert all(path.stat().st_size > 15_000 for path in received(disk / "inbox"))
        resize_disk(disk, "4m")
        assert dcmtk("storescu", port, *images)[1].count("(Success)") == 20
        assert len(received(disk / "inbox")) == 20


# Against hostile senders


def test_what_is_no_radiograph_or_in_an_unknown_syntax_is_refused_in_negotiation(port: int) -> None:
    def accepted(*contexts: tuple[str, str]) -> list[bool]:
        entity = AE("PACS")
        for sop_class, syntax in contexts:
            entity.add_requested_context(sop_class, syntax)
        association = entity.associate("127.0.0.1", port, ae_title="CXR")
        taken = {str(context.abstract_syntax) for context in association.accepted_contexts}
        association.abort()
        return [sop_class in taken for sop_class, _ in contexts]

    cr, processing = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1"
    classes = [cr, DX, processing, CT, "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.104.1"]
    assert accepted(*((name, ImplicitVRLittleEndian) for name in classes)) == [True] * 3 + [False] * 3
    for syntax in DECODED:
        assert accepted((DX, syntax)) == [True]
    for syntax in ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.100", "1.2.3"):
        assert accepted((DX, syntax)) == [False]


def test_hostile_data_sets_are_refused_each_with_its_status_and_nothing_is_kept(
    port: int, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = received(inbox)
    uid = generate_uid()
    good = make_dicom(SOPInstanceUID=uid, syntax=ImplicitVRLittleEndian)
    with associated(port) as association:
        for data, requested, sop_class, status in [
            (make_dicom(Modality="CT", syntax=ImplicitVRLittleEndian), "", DX, DOES_NOT_MATCH),
            (good, generate_uid(), DX, DOES_NOT_MATCH),
            (good, uid, CT, DOES_NOT_MATCH),
            (good, "../../etc/Doe", DX, CANNOT_UNDERSTAND),
            (good, "Doe^Jane", DX, CANNOT_UNDERSTAND),
            (make_dicom(SOPInstanceUID=uid, syntax=ImplicitVRLittleEndian, Rows=None), uid, DX, CANNOT_UNDERSTAND),
            (make_dicom(SOPInstanceUID="1.2.Doe", syntax=ImplicitVRLittleEndian), "1.2.Doe", DX, CANNOT_UNDERSTAND),
        ]:
            assert store(association, data, requested, sop_class) == status
        random_bytes = random.Random(0).randbytes(5000)
        for body in (random_bytes, good[400:2000], b"\x00" * 100, b"\x10\x00\x10\x00\xff\xff\xff\x7fDoe^Jane"):
            assert send(association, body, uid) in (CANNOT_UNDERSTAND, DOES_NOT_MATCH)
        assert received(inbox) == kept
        assert store(association, good) == STORED, "the association goes on"
    assert len(received(inbox)) == len(kept) + 1
    assert caplog.text.count("is refused with status") == 11
    assert not [word for word in SECRETS if word in caplog.text]


def test_a_data_set_above_the_limit_is_refused_and_the_next_is_stored(port: int, inbox: Path) -> None:
    kept = len(received(inbox))
    with associated(port) as association:
        large = make_dicom(np.zeros((800, 800), np.uint16), syntax=ImplicitVRLittleEndian)
        assert len(large) > 2**20
        assert store(association, large) == CANNOT_UNDERSTAND
        assert store(association, make_dicom(syntax=ImplicitVRLittleEndian)) == STORED
    assert len(received(inbox)) == kept + 1


def test_what_cannot_be_written_is_out_of_resources(tmp_path: Path) -> None:
    with listening(tmp_path / "inbox") as (_, port), associated(port) as association:
        (tmp_path / "inbox").rename(tmp_path / "gone")
        (tmp_path / "inbox").write_bytes(b"no folder")
        assert store(association, make_dicom(syntax=ImplicitVRLittleEndian)) == OUT_OF_RESOURCES
        (tmp_path / "inbox").unlink()
        (tmp_path / "gone").rename(tmp_path / "inbox")


def data_pdu(context: int, control: int, data: bytes) -> bytes:
    return struct.pack(">BBLLBB", 4, 0, len(data) + 6, len(data) + 2, context, control) + data


def command(*elements: tuple[int, bytes]) -> bytes:
    """A command set in implicit VR, without its length."""
    return b"".join(struct.pack("<HHL", 0, element, len(value)) + value for element, value in elements)


VERIFICATION = b"1.2.840.10008.1.1\0"
ECHO = command((2, VERIFICATION), (0x100, b"\x30\0"), (0x110, b"\1\0"), (0x800, b"\1\1"))


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(struct.pack(">BBL", 4, 0, 2**32 - 1), id="a PDU of 4 GiB"),
        pytest.param(data_pdu(1, 1, bytes(2**17)) * 30, id="a command without end"),
        pytest.param(data_pdu(1, 3, ECHO) * 30_000, id="commands that wait for no answer"),
    ],
)
def test_a_sender_that_floods_is_cut_off_and_others_are_served(flood: bytes, port: int) -> None:
    with associated(port) as association:
        with suppress(OSError):  # it is cut off already
            association.dul.socket.socket.sendall(flood)
        wait_for(lambda: not association.is_established, "the association to be cut off", timeout_s=20)
    with associated(port) as other:
        assert store(other, make_dicom(syntax=ImplicitVRLittleEndian)) == STORED


def test_a_connection_that_falls_silent_amid_a_pdu_ends(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SILENT_FOR_S", 0.2)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 200) + b"half")
        connection.settimeout(20)
        assert connection.recv(100) == b""


def test_noise_does_no_harm(port: int) -> None:
    noise = random.Random(1)
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(bytes([noise.choice([1, 2, 4, 5, 7, 99]), 0]) + noise.randbytes(noise.randrange(400)))
    with associated(port) as association:
        assert store(association, make_dicom(syntax=ImplicitVRLittleEndian)) == STORED


# What may be asked for


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ae_title": "A" * 17}, "--ae-title must have 1 to 16 ASCII characters"),
        ({"ae_title": "A\\B"}, "--ae-title must have"),
        ({"ae_title": " A"}, "--ae-title must have"),
        ({"ae_title": "Ä"}, "--ae-title must have"),
        ({"callers": ("PACS", "")}, "--caller must have"),
        ({"host": "nowhere"}, "--host must be an address of this machine"),
        ({"host": "0.0.0.0"}, "is reached from other machines: name those who may send with --caller"),  # noqa: S104
        ({"host": "::"}, "is reached from other machines"),
    ],
)
def test_an_address_that_no_node_may_have_is_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        Address(**options)  # pyright: ignore[reportArgumentType]


def test_other_machines_are_let_in_by_name() -> None:
    assert Address(host="0.0.0.0", callers=("PACS",)).callers == ("PACS",)  # noqa: S104
    assert Address(host="::1").host == "::1"


@pytest.mark.parametrize("max_mb", [0, 257])
def test_a_size_that_the_reader_does_not_take_is_refused(max_mb: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--max-mb must lie between 1 and 256, got {max_mb}"):
        Node(Address(), Delivery(tmp_path, "day"), max_mb)


def test_a_port_in_use_is_named(port: int, tmp_path: Path) -> None:
    node = Node(Address(port=port), Delivery(tmp_path, "day"), 1)
    with pytest.raises(ConfigError, match=rf"port {port} of '127.0.0.1' cannot be used \(Address already in use\)"):
        node.start()
