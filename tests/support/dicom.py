"""DICOM nodes and senders for tests: `cxr listen` within the process, dcmtk's programs, and a cable that can be cut."""

import io
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.association import Association

from cxr.images.synthetic import draw_examples
from cxr.receiving.delivery import BatchOf, Delivery
from cxr.receiving.node import Address, Node
from tests.support.images import make_dicom
from tests.support.processes import wait_for

needs_dcmtk = pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed")
DX = "1.2.840.10008.5.1.4.1.1.1.1"


@contextmanager
def listening(
    inbox: Path, *, batch_of: BatchOf = "day", max_mb: int = 64, callers: tuple[str, ...] = ()
) -> Iterator[tuple[Node, int]]:
    """Receive into an inbox inside the block; yields the node and its port on the loopback address."""
    delivery = Delivery(inbox, batch_of)
    node = Node(Address(port=0, callers=callers), delivery, max_mb)
    with delivery.open():
        port = node.start()
        try:
            yield node, port
        finally:
            node.stop()


def dcmtk(program: str, port: int, *words: object, called: str = "CXR", calling: str = "PACS") -> tuple[int, str]:
    """Run a program of dcmtk against a node; return its exit code and what it printed."""
    command = [program, "--verbose", "-aec", called, "-aet", calling, "127.0.0.1", str(port), *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def write_images(folder: Path, n_images: int, **tags: Any) -> list[Path]:
    """Write radiographs of one study."""
    folder.mkdir(parents=True, exist_ok=True)
    tags = {"StudyInstanceUID": generate_uid()} | tags
    paths = [folder / f"doe-{k}.dcm" for k in range(n_images)]
    for path in paths:
        path.write_bytes(make_dicom(**tags))
    return paths


def received(inbox: Path) -> list[Path]:
    """The files of an inbox, by name, and none that is half-written."""
    return sorted((path for path in inbox.glob("[!.]*/*")), key=lambda path: path.name)


@contextmanager
def associated(port: int, sop_class: str = DX) -> Iterator[Association]:
    """A sender that may send anything; yields its association."""
    entity = AE("PACS")
    entity.add_requested_context(sop_class)
    association = entity.associate("127.0.0.1", port, ae_title="CXR")
    assert association.is_established
    with association.dul.socket.socket:  # pynetdicom leaves it open if the node was first to close
        try:
            yield association
        finally:
            association.abort()


class Cable:
    """A connection to a port that stops after a number of bytes, until it is let go on or cut."""

    def __init__(self, port: int, n_bytes: int) -> None:
        self._far = socket.create_connection(("127.0.0.1", port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._left = n_bytes
        self.port = self._listener.getsockname()[1]
        self.has_stopped, self._goes_on = threading.Event(), threading.Event()
        self._is_cut = False
        self._thread = threading.Thread(target=self._connect)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._thread.join()

    def go_on(self) -> None:
        self._goes_on.set()

    def cut(self) -> None:
        self._is_cut = True
        self._goes_on.set()

    def _connect(self) -> None:
        with self._listener, self._far, self._listener.accept()[0] as near:
            back = threading.Thread(target=_pump, args=(self._far, near))
            back.start()
            with suppress(OSError):  # one of the ends is gone
                self._carry(near)
            for end in (near, self._far):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join()

    def _carry(self, near: socket.socket) -> None:
        while data := near.recv(4096):
            if self._left <= 0 and not self._goes_on.is_set():
                self.has_stopped.set()
                self._goes_on.wait()
            if self._is_cut:
                return
            self._left -= len(data)
            self._far.sendall(data)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # one of the ends is gone
        while data := source.recv(4096):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


PATIENT = {
    "PatientName": "Müller^Änne",
    "PatientID": "SECRET-0815",
    "PatientBirthDate": "19700101",
    "PatientSex": "F",
    "IssuerOfPatientID": "SECRET-WARD",
    "StudyDate": "20261101",
    "StudyTime": "101112",
    "StudyID": "SECRET-77",
    "AccessionNumber": "SECRET-ACC",
    "ReferringPhysicianName": "Arzt^Otto",
    "StudyDescription": "Thorax pa",
    "SpecificCharacterSet": "ISO_IR 100",
    "TimezoneOffsetFromUTC": "+0100",
    "PatientOrientation": ["L", "F"],
}
"""Whose image it is, and of which study."""
NAMES = ("Müller", "Änne", "SECRET", "Arzt", "19700101")
"""What stands in the instances and nowhere else."""


def draw_study(batch: Path) -> None:
    """Draw a batch: two radiographs of a patient, one without a study, one without a patient id, and a JPEG file."""
    batch.mkdir(parents=True)
    first, second, *_ = draw_examples(seed=5).values()
    study = PATIENT | {"StudyInstanceUID": generate_uid()}
    grey = [np.asarray(Image.open(io.BytesIO(data)).convert("L")) for data in (first, second)]
    files = {
        "first.dcm": make_dicom(grey[0], **study, SeriesInstanceUID=generate_uid()),
        "second.dcm": make_dicom(grey[1], **study, SeriesInstanceUID=generate_uid()),
        "no-study.dcm": make_dicom(grey[0] // 2, **PATIENT, SeriesInstanceUID=generate_uid()),
        "no-patient.dcm": make_dicom(grey[1] // 2, **study | {"PatientID": None}, SeriesInstanceUID=generate_uid()),
        "plain.jpeg": first,
    }
    for name, data in files.items():
        (batch / name).write_bytes(data)


def find_instances(folder: Path, modality: str | None = None) -> list[Path]:
    """The instances in a folder of DICOM results: reports (SR), pictures (OT), or both."""
    paths = sorted(folder.glob("*.dcm"))
    return [path for path in paths if modality in (None, pydicom.dcmread(path, stop_before_pixels=True).Modality)]


@contextmanager
def storescp(folder: Path, *words: str) -> Iterator[int]:
    """Run dcmtk's node, which keeps what it takes in a folder; yields its port."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["storescp", "--output-directory", str(folder), "-aet", "PACS", *words, str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: _answers(port), "the node", timeout_s=20)
            yield port
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
