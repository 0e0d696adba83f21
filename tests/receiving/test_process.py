"""`cxr listen` as a process: killed, stopped, and followed by `cxr score`."""

import io
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import generate_uid

from cxr.images.inbox import batch_names
from cxr.images.synthetic import draw_examples
from tests.support.dicom import dcmtk, needs_dcmtk, received, write_images
from tests.support.images import make_dicom
from tests.support.processes import BIN, wait_for
from tests.support.scoring import score, table

pytestmark = [pytest.mark.faults, needs_dcmtk]


@contextmanager
def listen(inbox: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`cxr listen`, until the block ends; yields the process and its port."""
    command = [str(BIN / "cxr"), "listen", str(inbox), "--port=0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        (port,) = re.findall(r"^node     CXR at 127\.0\.0\.1:(\d+)  ", process.stdout.readline())
        process.stdout.readline(), process.stdout.readline()
        try:
            yield process, int(port)
        finally:
            process.kill()


def test_killed_amid_a_write_it_leaves_nothing_half_in_the_inbox_and_takes_the_rest_when_it_is_back(
    tmp_path: Path,
) -> None:
    inbox, receiving = tmp_path / "inbox", tmp_path / "inbox" / ".receiving"
    large = np.zeros((3000, 3500), np.uint16)
    images = write_images(tmp_path / "sent", 4)
    for path in images:
        path.write_bytes(make_dicom(large, StudyInstanceUID=generate_uid()))

    def half_written() -> list[Path]:
        return [path for path in receiving.glob(".*.tmp") if path.stat().st_size > 0]

    with listen(inbox) as (process, port), ThreadPoolExecutor() as pool:
        sender = pool.submit(dcmtk, "storescu", port, *images)
        while not half_written():
            assert not sender.done(), "an image is written beside the batches"
        process.kill()
        _, printed = sender.result()
    names = batch_names(inbox)
    assert ".receiving" not in names
    confirmed = printed.count("Received Store Response (Success)")
    assert confirmed <= len(received(inbox)) < len(images)
    assert all(pydicom.dcmread(path).pixel_array.shape == large.shape for path in received(inbox))
    assert half_written(), "it was killed while it wrote"
    with listen(inbox) as (_, port):
        assert half_written() == []
        assert dcmtk("storescu", port, *images)[0] == 0
    assert len(received(inbox)) == len(images)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_stopped_it_ends_orderly_and_what_came_is_scored_as_the_file_itself(
    number: signal.Signals, code: int, home: Path, tmp_path: Path
) -> None:
    inbox, direct = tmp_path / "inbox", tmp_path / "inbox" / "direct"
    direct.mkdir(parents=True)
    for k, data in enumerate(draw_examples(seed=5).values()):
        grey = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        (direct / f"doe-{k}.dcm").write_bytes(make_dicom(grey, StudyInstanceUID=generate_uid()))
    images = sorted(direct.iterdir())
    with listen(inbox, "--batch=study", "--caller=PACS") as (process, port):
        assert dcmtk("storescu", port, *images)[0] == 0
        wait_for(lambda: len(received(inbox)) == 2 * len(images), "the images", timeout_s=20)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    if number == signal.SIGINT:
        return
    assert score(home, inbox, tmp_path / "scores").returncode == 0
    rows = table(tmp_path / "scores")
    assert set(rows["status"]) == {"ok"}
    by_uid = rows[rows["batch"] != "direct"].set_index("path")["probability_PNEUMONIA"]
    for path, probability in rows[rows["batch"] == "direct"].set_index("path")["probability_PNEUMONIA"].items():
        uid = pydicom.dcmread(direct / str(path), stop_before_pixels=True).SOPInstanceUID
        assert by_uid[f"{uid}.dcm"] == pytest.approx(probability, abs=1e-6)
