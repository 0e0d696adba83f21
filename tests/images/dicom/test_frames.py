from pathlib import Path

import pytest
from PIL import Image

from cxr.errors import UnreadableError
from cxr.images.dicom.frames import FrameHeader, read_frame_header
from tests.support.images import colour


def test_a_header_is_read_of_every_kind_of_frame(tmp_path: Path) -> None:
    image = Image.fromarray(colour(8))
    image.save(tmp_path / "a.jpg")
    image.save(tmp_path / "a.j2k", no_jp2=True)
    image.save(tmp_path / "a.jp2")
    frame = (tmp_path / "a.jpg").read_bytes()
    bits_at = frame.index(b"\xff\xc0") + 4
    assert read_frame_header(frame) == FrameHeader(64, 64, 3, 8, 0xC0, bits_at=bits_at)
    for name in ("a.j2k", "a.jp2"):
        assert read_frame_header((tmp_path / name).read_bytes()) == FrameHeader(64, 64, 3, 8)
    for frame in (b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", b"\xff\x4f\xff\x51\x00", bytes(100)):
        with pytest.raises(UnreadableError, match="not compressed as its transfer syntax says"):
            read_frame_header(frame)
