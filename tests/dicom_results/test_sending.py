"""Instances are sent until a node has confirmed them: to dcmtk's, and to one that answers what a test wants."""

import json
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, evt

from cxr.config import DicomNode
from cxr.dicom_results.sending import COMPREHENSIVE_SR, SECONDARY_CAPTURE, send_missing
from cxr.errors import NodeError
from cxr.images.dicom.file import EXPLICIT, IMPLICIT
from cxr.storage.dicom_folder import DicomFolder
from tests.support.dicom import NAMES, find_instances, needs_dcmtk, storescp


@pytest.fixture
def folder(dicom_results: Path, tmp_path: Path) -> DicomFolder:
    """A copy of the four instances."""
    (tmp_path / "results").mkdir()
    for path in find_instances(dicom_results):
        shutil.copy(path, tmp_path / "results")
    return DicomFolder(tmp_path / "results")


class Answering:
    """A node that answers each instance with the next status, and then with success."""

    def __init__(self, statuses: Sequence[int | None]) -> None:
        self._statuses = list(statuses)
        self.uids: list[str] = []

    def take(self, event: evt.Event) -> int:
        status = self._statuses.pop(0) if self._statuses else 0
        self.uids.append(str(event.request.AffectedSOPInstanceUID))  # pyright: ignore[reportAttributeAccessIssue]
        if status is None:
            event.assoc.abort()
            return 0
        return status


@contextmanager
def answering(
    *statuses: int | None,
    classes: Sequence[str] = (COMPREHENSIVE_SR, SECONDARY_CAPTURE),
    syntax: str = EXPLICIT,
    title: str = "PACS",
) -> Iterator[tuple[Answering, DicomNode]]:
    node = Answering(statuses)
    entity = AE(title)
    entity.require_called_aet = True
    for sop_class in classes:
        entity.add_supported_context(sop_class, syntax)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, node.take)])
    assert server is not None
    try:
        yield node, DicomNode("PACS", "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()


def uids(folder: DicomFolder) -> list[str]:
    return [path.stem for path in folder.instances()]


def confirmed(folder: DicomFolder) -> list[str]:
    lines = folder.sent.read_text().splitlines() if folder.sent.exists() else []
    return [json.loads(line)["uid"] for line in lines]


def test_each_instance_is_sent_once_to_each_node(folder: DicomFolder) -> None:
    with answering() as (first, node):
        assert send_missing(folder, node, "CXR") == 4
        assert send_missing(folder, node, "CXR") == 0
    assert first.uids == confirmed(folder) == uids(folder)
    with answering() as (second, node):
        assert send_missing(folder, node, "CXR") == 4
    assert second.uids == uids(folder)


def test_a_node_that_knows_the_implicit_syntax_alone_is_sent_that(folder: DicomFolder) -> None:
    with answering(syntax=IMPLICIT) as (_, node):
        assert send_missing(folder, node, "CXR") == 4


def test_a_warning_confirms_and_a_refusal_is_said_and_sent_again(folder: DicomFolder) -> None:
    first, second, third, fourth = uids(folder)
    with answering(0xB000, 0xC000) as (_, node), pytest.raises(NodeError) as raised:
        send_missing(folder, node, "CXR")
    assert f"has taken 3 of 4 instances and not the others (status C000 for {second})" in str(raised.value)
    assert confirmed(folder) == [first, third, fourth]
    with answering() as (again, other):
        node = DicomNode("PACS", "127.0.0.1", other.port)
        folder.sent.write_text(folder.sent.read_text().replace(str(raised.value).split()[0], str(node)))
        assert send_missing(folder, node, "CXR") == 1
    assert again.uids == [second]


@pytest.mark.parametrize("status", [0xA700, None])
def test_a_node_that_is_full_or_hangs_up_gets_no_more_and_nothing_is_lost(
    folder: DicomFolder, status: int | None
) -> None:
    with answering(0, status) as (node, address), pytest.raises(NodeError, match="has taken 1 of 4 instances"):
        send_missing(folder, address, "CXR")
    assert confirmed(folder) == node.uids[:1] == uids(folder)[:1]
    assert len(node.uids) == 2
    assert len(folder.instances()) == 4


def test_a_node_that_takes_no_reports_is_sent_the_pictures(folder: DicomFolder) -> None:
    with answering(classes=[SECONDARY_CAPTURE]) as (node, address), pytest.raises(NodeError, match="status 0122"):
        send_missing(folder, address, "CXR")
    assert len(node.uids) == 2


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # pynetdicom leaves a refused socket to the collector
def test_a_node_that_is_down_or_has_another_title_is_named_in_one_sentence(folder: DicomFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NodeError) as down:
        send_missing(folder, DicomNode("PACS", "127.0.0.1", port), "CXR")
    assert str(down.value).startswith(
        f"--dicom-to PACS@127.0.0.1:{port} cannot be sent to (nobody answers): 4 instances"
    )
    with answering(title="OTHER") as (_, node), pytest.raises(NodeError, match=r"\(it refuses the association\)"):
        send_missing(folder, node, "CXR")
    assert confirmed(folder) == []


def test_a_line_that_a_full_disk_cut_off_confirms_nothing(folder: DicomFolder) -> None:
    with answering() as (node, address):
        send_missing(folder, address, "CXR")
        text = folder.sent.read_text()
        folder.sent.write_text(text[:-20])
        assert send_missing(folder, address, "CXR") == 1
    assert node.uids[-1] == uids(folder)[-1]


@needs_dcmtk
@pytest.mark.faults
def test_dcmtk_takes_the_instances_as_they_are_and_a_repeat_sends_nothing(folder: DicomFolder, tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs") as port:
        node = DicomNode("PACS", "127.0.0.1", port)
        assert send_missing(folder, node, "CXR") == 4
        taken = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path) for path in (tmp_path / "pacs").iterdir()}
        for path in folder.instances():
            assert taken[path.stem] == pydicom.dcmread(path)
        shutil.rmtree(tmp_path / "pacs")
        (tmp_path / "pacs").mkdir()
        assert send_missing(folder, node, "CXR") == 0
        assert list((tmp_path / "pacs").iterdir()) == []
    assert not [name for name in NAMES if name in folder.sent.read_text()]


@needs_dcmtk
@pytest.mark.faults
def test_dcmtk_refusing_the_association_is_said(folder: DicomFolder, tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", "--refuse") as port, pytest.raises(NodeError, match="refuses the association"):
        send_missing(folder, DicomNode("PACS", "127.0.0.1", port), "CXR")
