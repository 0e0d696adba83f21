import logging
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless

from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.errors import UnreadableError
from cxr.images import reading
from cxr.images.decoding import Header, decode_square, open_image
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from tests.support.images import RAMP, make_dicom


def grey(data: bytes) -> np.ndarray:
    return decode_square(data, 64).astype(int)


def test_a_header_holds_size_photometric_interpretation_and_bits() -> None:
    assert open_image(make_dicom()).header == Header(80, 96, "MONOCHROME2", 12)


def test_twelve_bits_use_the_whole_grey_scale() -> None:
    expected = Image.fromarray((RAMP / 4095 * 255).round().astype(np.uint8)).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(grey(make_dicom()) - np.asarray(expected, dtype=int)).max() <= 1


def test_monochrome1_is_inverted() -> None:
    inverted = make_dicom((4095 - RAMP).astype(np.uint16), PhotometricInterpretation="MONOCHROME1")
    assert np.abs(grey(inverted) - grey(make_dicom())).max() <= 1


def test_a_window_saturates_what_lies_outside_it() -> None:
    square = grey(make_dicom(WindowCenter=2048, WindowWidth=1024))
    assert square[:20].max() == 0
    assert square[44:].min() == 255


def test_a_rescale_comes_before_the_window() -> None:
    shifted = make_dicom(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3096, WindowWidth=2048)
    assert np.abs(grey(shifted) - grey(make_dicom(WindowCenter=2048, WindowWidth=1024))).max() <= 1


def test_padding_is_black_and_does_not_stretch_the_scale() -> None:
    padded = RAMP.copy() // 2 + 1000
    padded[:, :10] = 0
    square = grey(make_dicom(padded, PixelPaddingValue=0))
    without = grey(make_dicom(padded[:, 10:]))
    assert square[:, :6].max() == 0
    assert (square[:, 10:].min(), square.max()) == (without.min(), without.max())


def test_a_colour_capture_becomes_luma() -> None:
    colour = np.zeros((64, 64, 3), np.uint8)
    colour[..., 1] = 255
    assert set(np.unique(grey(make_dicom(colour)))) <= {149, 150}


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "CT"}, "DICOM of something else: modality 'CT'"),
        ({"NumberOfFrames": 2, "PixelData": RAMP.tobytes() * 2}, "several frames"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
        ({"PixelData": RAMP.tobytes()[:100]}, "truncated: DICOM with 100 of 15,360 bytes of pixels"),
        ({"Rows": None}, r"damaged: Rows \(0028,0010\) is missing or no whole number"),
        ({"Rows": 30_000, "Columns": 30_000}, "too large: 30000×30000"),
        ({"Rows": 16, "PixelData": RAMP[:16].tobytes()}, "too small"),
        ({"syntax": DeflatedExplicitVRLittleEndian}, "deflated"),
    ],
)
def test_a_dicom_that_is_no_image_has_a_reason_without_a_name_in_it(tags: dict, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason) as caught:
        decode_square(make_dicom(**tags), 64)
    assert "SECRET" not in str(caught.value)
    assert "Doe" not in str(caught.value)


def test_pixels_that_are_not_what_the_syntax_says_are_damaged() -> None:
    data = make_dicom(StudyInstanceUID="1.2")
    uid = b"\x02\x00\x10\x00UI\x14\x00" + ExplicitVRLittleEndian.encode() + b"\0"
    assert data.count(uid) == 1
    longer = b"\x02\x00\x10\x00UI\x16\x00" + JPEG2000Lossless.encode()
    with pytest.raises(UnreadableError, match="DICOM that cannot be decoded"):
        decode_square(data.replace(uid, longer), 64)


TEXTS = {
    "Modality": "DX",
    "NumberOfFrames": "1",
    "PhotometricInterpretation": "MONOCHROME2",
    "RescaleSlope": "1",
    "RescaleIntercept": "0",
    "WindowCenter": "2000",
    "WindowWidth": "3000",
    "VOILUTFunction": "LINEAR",
    "PresentationLUTShape": "IDENTITY",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
}
PATIENT = b"SECRET^PATIENT"


def with_text(data: bytes, keyword: str, text: bytes) -> bytes:
    """Put another text into a tag, with its length (PS3.5 7.1.2), as a damaged or careless exporter does."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    header = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + dictionary_VR(tag).encode()
    start = data.index(header) + len(header)
    (length,) = struct.unpack_from("<H", data, start)
    return data[:start] + struct.pack("<H", len(text)) + text + data[start + 2 + length :]


@pytest.mark.parametrize("keyword", TEXTS)
def test_no_text_of_a_tag_is_ever_quoted(keyword: str) -> None:
    good = make_dicom(**TEXTS)
    assert reading.read(good, 64).refused is None
    found = reading.read(with_text(good, keyword, PATIENT), 64)
    assert "SECRET" not in repr((found.header, found.refused, str(found.refused)))
    if keyword != "SOPClassUID":
        assert found.refused is not None, "it cannot be understood"


def test_a_length_that_swallows_the_next_tags_does_not_quote_them() -> None:
    data = make_dicom(StudyDescription="SECRET^PATIENT")
    modality = b"\x08\x00\x60\x00CS"
    at = data.index(modality) + len(modality)
    assert data[at] == 2
    found = reading.read(data[:at] + b"\x18" + data[at + 1 :], 64)
    assert found.refused is not None
    assert found.refused.reason == "dicom_of_something_else"
    assert "SECRET" not in repr((found.header, str(found.refused)))


@pytest.fixture
def hospital(tree: Callable[[dict[str, bytes]], Path]) -> Path:
    """Two images of each of six patients in two classes, named without a hint of whose they are."""
    generator = np.random.default_rng(0)
    images = {}
    for patient in range(6):
        for view in range(2):
            pixels = generator.integers(0, 4095, (160, 140), dtype=np.uint16)
            images[f"{'AB'[patient % 2]}/{patient}{view}.dcm"] = make_dicom(pixels, PatientID=f"SECRET-{patient}")
    return tree(images)


def test_dicom_images_go_through_the_manifest_and_their_patients_stay_together(
    hospital: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, cache = RunFolder(tmp_path / "run"), tmp_path / "cache"
    with caplog.at_level(logging.DEBUG):
        examine(DataConfig(data=str(hospital), folds=3, positive="B"), folder, cache=cache)
    manifest = files.read_table(folder.manifest)
    assert manifest["status"].eq("used").all()
    assert set(manifest["bits"]) == {12}
    assert manifest.groupby(manifest["path"].str[2])["patient_id"].nunique().eq(1).all()
    assert manifest["patient_id"].nunique() == 6
    assert manifest["patient_id"].str.fullmatch("dicom-[0-9a-f]{16}").all()
    assert files.read_json(folder.certificate)["n_groups"] == 6
    written = b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "images" not in path.parts
    )
    assert b"SECRET" not in written
    assert b"Doe" not in written
    assert "SECRET" not in caplog.text
    key = cache / "patient.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_without_pydicom_the_way_out_is_named(hospital: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pydicom'] = None\n"
        "from pathlib import Path; from cxr.dataset.examination import examine; from cxr.config import DataConfig\n"
        "from cxr.storage.run_folder import RunFolder; from cxr.errors import DataError\n"
        f"try: examine(DataConfig(data={str(hospital)!r}, positive='B'), RunFolder(Path('run')), cache=Path('cache'))\n"
        "except DataError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "12 images are DICOM, which needs pydicom: install cxr with the extra [dicom].\n"
