"""Every transfer syntax against other programs: dcmtk's encoders and decoders, pydicom, and pydicom's own test files.

What needs imagecodecs (the extra `dicom`) or dcmtk is skipped where it is missing, and says so.
"""

import importlib.util
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import data
from pydicom.encaps import encapsulate, get_frame

from cxr.errors import UnreadableError
from cxr.images.dicom import decoders
from cxr.images.dicom.file import HTJ2K, is_dicom, read_dataset, require_radiograph
from cxr.images.dicom.pixels import PIXEL_TAGS, read_levels
from cxr.images.reading import read as reading_of
from tests.support.images import colour, make_dicom, spread
from tests.support.jpeg import as_12_bits, cuts, lossless
from tests.support.processes import PROJECT

has_codecs = importlib.util.find_spec("imagecodecs") is not None
needs_codecs = pytest.mark.skipif(not has_codecs, reason="imagecodecs, of the extra dicom, is not installed")
needs_dcmtk = pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmtk is not installed")


def body(bits: int, seed: int = 0, shape: tuple[int, int] = (96, 80)) -> np.ndarray:
    """A round body with noise over all the bits."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    noise = np.random.default_rng(seed).normal(0, 2**bits / 60, shape)
    exact = np.hypot(y - 40, x - 30) / 140 * 2**bits + noise
    return exact.round().clip(0, 2**bits - 1).astype(np.uint8 if bits <= 8 else np.uint16)


def read(data: bytes) -> np.ndarray:
    return read_levels(read_dataset(data, PIXEL_TAGS)).astype(int)


def through(command: list[str], data: bytes, folder: Path) -> bytes:
    """What a program of dcmtk makes of a file."""
    (folder / "in.dcm").write_bytes(data)
    subprocess.run([*command, "in.dcm", "out.dcm"], cwd=folder, check=True, capture_output=True)
    return (folder / "out.dcm").read_bytes()


STUDY = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}

# Against dcmtk's encoders


@needs_dcmtk
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["dcmcjpeg", "+e1"], marks=needs_codecs, id="JPEG Lossless SV1"),
        pytest.param(["dcmcjpeg", "+el", "+sv", "4"], marks=needs_codecs, id="JPEG Lossless, predictor 4"),
        pytest.param(["dcmcjpeg", "+el", "+sv", "7"], marks=needs_codecs, id="JPEG Lossless, predictor 7"),
        pytest.param(["dcmcjpls", "+el"], marks=needs_codecs, id="JPEG-LS"),
        pytest.param(["dcmcrle"], id="RLE"),
    ],
)
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_lossless_compression_changes_nothing(command: list[str], bits: int, tmp_path: Path) -> None:
    for sign in (0, 1):
        pixels = body(bits)
        signed = pixels.astype(int) - 2 ** (bits - 1)
        stored = signed.astype(np.int8 if bits == 8 else np.int16) if sign else pixels
        tags = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": sign}
        data = make_dicom(stored, **tags, **STUDY)
        assert (read(through(command, data, tmp_path)) == spread(pixels)).all()


@needs_dcmtk
@needs_codecs
@pytest.mark.parametrize(
    ("command", "bits", "most"),
    [
        (["dcmcjpeg", "+eb", "+q", "95"], 8, 16),
        (["dcmcjpeg", "+ee", "+q", "95"], 8, 16),
        (["dcmcjpeg", "+ee", "+q", "95"], 12, 16),
        (["dcmcjpls", "+en", "+md", "2"], 12, 1),
    ],
)
def test_lossy_compression_changes_little(command: list[str], bits: int, most: int, tmp_path: Path) -> None:
    pixels = body(bits)
    tags = {"BitsStored": bits, "HighBit": bits - 1, "WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
    found = read(through(command, make_dicom(pixels, **tags, **STUDY), tmp_path))
    assert np.abs(found - spread(pixels)).max() <= most
    assert np.abs(found - spread(pixels)).mean() <= 3


@needs_dcmtk
@needs_codecs
@pytest.mark.parametrize("interleave", ["+il", "+is", "+in"])
def test_colour_in_jpeg_ls_comes_in_any_order(interleave: str, tmp_path: Path) -> None:
    data = make_dicom(colour(8), **STUDY)
    assert (read(through(["dcmcjpls", "+el", interleave], data, tmp_path)) == colour(8)).all()


@needs_dcmtk
@pytest.mark.parametrize(
    ("command", "most"),
    [
        (["dcmcrle"], 0),
        pytest.param(["dcmcjpeg", "+e1"], 0, marks=needs_codecs),
        (["dcmcjpeg", "+eb", "+q", "98", "+cy", "+s4"], 9),
        (["dcmcjpeg", "+eb", "+q", "98", "+cr"], 9),
    ],
)
def test_colour_is_read_through_dcmtks_encoders(command: list[str], most: int, tmp_path: Path) -> None:
    found = read(through(command, make_dicom(colour(8), **STUDY), tmp_path))
    assert np.abs(found - colour(8)).max() <= most


# JPEG 2000 and HTJ2K


def j2k(pixels: np.ndarray, syntax: str, frame: bytes, **tags: Any) -> bytes:
    return make_dicom(pixels, syntax=syntax, PixelData=encapsulate([frame]), **tags)


@pytest.mark.parametrize("bits", [8, 16])
def test_jpeg_2000_from_pillow_is_read(bits: int, tmp_path: Path) -> None:
    pixels = body(bits)
    Image.fromarray(pixels).save(tmp_path / "frame.j2k", irreversible=False, no_jp2=True)
    data = j2k(
        pixels, "1.2.840.10008.1.2.4.90", (tmp_path / "frame.j2k").read_bytes(), BitsStored=bits, HighBit=bits - 1
    )
    assert (read(data) == spread(pixels)).all()


@pytest.mark.parametrize(("photometric", "most"), [("YBR_RCT", 0), ("YBR_ICT", 8)])
def test_jpeg_2000s_own_transforms_are_undone_once(photometric: str, most: int, tmp_path: Path) -> None:
    image = Image.fromarray(colour(8))
    image.save(tmp_path / "frame.j2k", irreversible=photometric == "YBR_ICT", mct=1, no_jp2=True)
    frame = (tmp_path / "frame.j2k").read_bytes()
    data = j2k(colour(8), "1.2.840.10008.1.2.4.91", frame, PhotometricInterpretation=photometric)
    assert np.abs(read(data) - colour(8)).max() <= most


@needs_codecs
@pytest.mark.parametrize("syntax", HTJ2K)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_high_throughput_jpeg_2000_is_read(syntax: str, bits: int) -> None:
    import imagecodecs

    if not imagecodecs.HTJ2K.available:
        pytest.skip("imagecodecs was built without an HTJ2K encoder")
    pixels = body(bits)
    frame = imagecodecs.htj2k_encode(pixels)
    assert (read(j2k(pixels, syntax, frame, BitsStored=bits, HighBit=bits - 1)) == spread(pixels)).all()


@needs_codecs
def test_colour_of_12_bits_in_jpeg_2000_keeps_its_low_bits() -> None:
    import imagecodecs

    rgb = colour(12)
    frame = imagecodecs.jpeg2k_encode(rgb, level=0, reversible=True, codecformat="j2k", bitspersample=12, mct=False)
    found = read(j2k(rgb, "1.2.840.10008.1.2.4.90", frame))
    assert (found == (rgb * 255.0 / 4095).round()).all()


# Adobe's marker


def adobe_jpeg(rgb: np.ndarray) -> bytes:
    """A JPEG of YCbCr with Adobe's marker, which says so, in place of JFIF's."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=98, subsampling=0)
    data = stream.getvalue()
    assert data[2:4] == b"\xff\xe0"
    rest = data[4 + int.from_bytes(data[4:6], "big") :]
    return b"\xff\xd8\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01" + rest


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_FULL", "RGB"])
@pytest.mark.parametrize("place", ["first", "after the frame's header"])
def test_ybr_with_adobes_marker_is_converted_once(place: str, photometric: str) -> None:
    frame = adobe_jpeg(colour(8))
    if place != "first":
        start = frame.index(b"\xff\xda")
        frame = frame[:2] + frame[18:start] + frame[2:18] + frame[start:]
    data = j2k(colour(8), "1.2.840.10008.1.2.4.50", frame, PhotometricInterpretation=photometric)
    assert np.abs(read(data) - colour(8)).max() <= 9


# Missing and foreign data


def frame_of(data: bytes) -> bytes:
    return get_frame(read_dataset(data, ["PixelData"]).PixelData, 0, number_of_frames=1)


@needs_dcmtk
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["dcmcjpls", "+el"], marks=needs_codecs, id="JPEG-LS"),
        pytest.param(["dcmcrle"], id="RLE"),
    ],
)
def test_missing_data_is_found_in_every_compression(command: list[str], tmp_path: Path) -> None:
    pixels = body(12, shape=(320, 320))
    whole = through(command, make_dicom(pixels, **STUDY), tmp_path)
    frame, syntax = frame_of(whole), read_dataset(whole, ["Rows"]).file_meta.TransferSyntaxUID
    read(j2k(pixels, syntax, frame))
    for share in (0.2, 0.5, 0.8, 0.97):
        cut = frame[: int(len(frame) * share)]
        filled = [cut + bytes(len(frame) // 4) + b"\xff\xd9"] if command[0] != "dcmcrle" else []  # zeros are its black
        for damaged in (cut, cut + b"\xff\xd9", *filled):
            with pytest.raises(UnreadableError) as caught:
                read(j2k(pixels, syntax, damaged))
            assert caught.value.reason in ("truncated", "damaged")


def noisy_colour() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 6, (64, 64, 3))
    return (colour(8) + noise).round().clip(0, 255).astype(np.uint8)


def by_pillow(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


EXTENDED, LOSSLESS = "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57"
TWELVE = {"BitsStored": 12, "HighBit": 11, "BitsAllocated": 16}
YBR = {"PhotometricInterpretation": "YBR_FULL_422"}
INNER = body(8) // 2 + 64
"""So that nothing that a JPEG adds is cut off at 0 or 255."""
WAYS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
}


def reason_unless_read_as(levels: np.ndarray, data: bytes) -> str | None:
    """Return why a file is refused; None if it is not, and has these levels."""
    reading = reading_of(data, None)
    if reading.refused is None:
        assert reading.picture is not None
        assert (np.asarray(reading.picture.grey if levels.ndim == 2 else read(data)) == levels).all()
        return None
    return reading.refused.reason


def expect_no_cut_to_be_read(pixels: np.ndarray, syntax: str, frame: bytes, n: int = 30, **tags: Any) -> np.ndarray:
    """Return the whole frame's levels; no frame that was cut short or filled up may be read with others."""
    whole = read(j2k(pixels, syntax, frame, **tags))
    damaged = cuts(frame, n)
    reasons = [reason_unless_read_as(whole, j2k(pixels, syntax, cut, **tags)) for cut in damaged]
    assert set(reasons) <= {"truncated", "damaged", "too_complex", None}  # zeros in place of a header are segments
    assert reasons.count(None) < 0.1 * len(damaged)
    return whole


@pytest.mark.parametrize("way", WAYS)
def test_no_cut_of_a_jpeg_of_8_bits_is_read_as_something_else(way: str) -> None:
    frame = by_pillow(INNER, **WAYS[way])
    whole = expect_no_cut_to_be_read(INNER, "1.2.840.10008.1.2.4.50", frame)
    assert np.abs(whole - spread(np.asarray(Image.open(io.BytesIO(frame))))).max() <= 1
    rgb = noisy_colour()
    frame = by_pillow(rgb, **WAYS[way])
    whole = expect_no_cut_to_be_read(rgb, "1.2.840.10008.1.2.4.50", frame, **YBR)
    assert np.abs(whole - np.asarray(Image.open(io.BytesIO(frame))).astype(int)).max() <= 3


@needs_codecs
@pytest.mark.parametrize("way", WAYS)
def test_no_cut_of_a_jpeg_of_12_bits_is_read_as_something_else(way: str) -> None:
    frame = by_pillow(INNER, **WAYS[way])
    tags = TWELVE | {"WindowCenter": 2048, "WindowWidth": 4096}
    whole = expect_no_cut_to_be_read(INNER.astype(np.uint16), EXTENDED, as_12_bits(frame), **tags)
    levels = np.asarray(Image.open(io.BytesIO(frame)))
    assert np.abs(whole - spread(levels)).max() <= 1 + 255 / np.ptp(levels), "each of 8 bits is rounded once more"


@needs_codecs
@pytest.mark.parametrize("restart_rows", [0, 8])
@pytest.mark.parametrize("is_interleaved", [True, False])
@pytest.mark.parametrize("samples", [1, 3])
def test_no_cut_of_a_lossless_jpeg_is_read_as_something_else(
    samples: int, is_interleaved: bool, restart_rows: int
) -> None:
    pixels = noisy_colour() if samples == 3 else body(12, shape=(64, 64))
    frame = lossless(
        pixels.reshape(64, 64, samples),
        12 if samples == 1 else 8,
        restart_rows=restart_rows,
        is_interleaved=is_interleaved,
    )
    whole = expect_no_cut_to_be_read(pixels, LOSSLESS, frame, n=10)
    assert (whole == (spread(pixels) if samples == 1 else pixels)).all()


@needs_codecs
def test_restart_markers_that_are_lost_or_out_of_order_are_found() -> None:
    wide = body(12, shape=(64, 64))
    for syntax, frame, stored, tags in (
        (EXTENDED, as_12_bits(by_pillow(INNER, **WAYS["restarts"])), INNER.astype(np.uint16), TWELVE),
        (LOSSLESS, lossless(wide[..., None], 12, restart_rows=4), wide, {}),
    ):
        read(j2k(stored, syntax, frame, **tags))
        start = frame.index(b"\xff\xda")
        markers = [start + match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", frame[start:])]
        without_one = frame[: markers[2]] + frame[markers[2] + 2 :]
        without_eight = frame[: markers[1]] + frame[markers[9] :]
        swapped = bytearray(frame)
        swapped[markers[3] + 1] ^= 1
        for damaged in (without_one, without_eight, bytes(swapped)):
            with pytest.raises(UnreadableError) as refused:
                read(j2k(stored, syntax, damaged, **tags))
            assert refused.value.reason in ("truncated", "damaged")


@needs_dcmtk
@needs_codecs
@pytest.mark.parametrize(
    ("option", "pixels", "most"),
    [
        pytest.param("+e1", body(16), 0, id="lossless, 16 bits"),
        pytest.param("+el", noisy_colour(), 0, id="lossless, predictor 1 of process 14, colour"),
        pytest.param("+ee", body(12), 16, id="extended"),
    ],
)
def test_no_cut_of_what_dcmtk_encodes_is_read_as_something_else(
    option: str, pixels: np.ndarray, most: int, tmp_path: Path
) -> None:
    bits = {"BitsStored": 16, "HighBit": 15} if pixels.max() > 4095 else {}
    data = through(["dcmcjpeg", option], make_dicom(pixels, **bits, **STUDY), tmp_path)
    syntax = LOSSLESS if most == 0 else EXTENDED
    whole = expect_no_cut_to_be_read(pixels, syntax, frame_of(data), n=10, **bits)
    assert np.abs(whole - (spread(pixels) if pixels.ndim == 2 else pixels.astype(int))).max() <= most


def test_a_progressive_jpeg_of_two_thousand_scans_is_refused_in_dicom_too() -> None:
    frame = by_pillow(np.zeros((64, 64), np.uint8), progressive=True)
    start, end = frame.rindex(b"\xff\xda"), frame.rindex(b"\xff\xd9")
    slow = frame[:end] + frame[start:end] * 2000 + frame[end:]
    with pytest.raises(UnreadableError, match=r"too complex: JPEG of 2,0.. scans, at most 100"):
        read(j2k(np.zeros((64, 64), np.uint8), "1.2.840.10008.1.2.4.50", slow))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("quality", [30, 75, 98])
def test_whole_jpegs_are_not_taken_for_truncated_ones(seed: int, quality: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(33, 120, 2))
    pixels = body(8, seed, shape)
    if seed % 4 == 0:
        pixels[shape[0] // 2 :] = generator.integers(0, 256)  # flat towards its end
    if seed % 8 == 1:
        pixels[:] = 0
    Image.fromarray(pixels).save(tmp_path / "frame.jpg", quality=quality, optimize=seed % 3 == 0)
    read(j2k(pixels, "1.2.840.10008.1.2.4.50", (tmp_path / "frame.jpg").read_bytes()))


@needs_dcmtk
@needs_codecs
@pytest.mark.parametrize("end", ["flat", "noise"])
@pytest.mark.parametrize("option", ["+e1", "+el"])
def test_whole_lossless_jpegs_are_not_taken_for_truncated_ones(end: str, option: str, tmp_path: Path) -> None:
    for seed in range(6):
        pixels = body(12, seed, (60 + seed, 90 - seed))
        if end == "flat":
            pixels[20:] = 0
        data = through(["dcmcjpeg", option], make_dicom(pixels, **STUDY), tmp_path)
        assert (read(data) == spread(pixels)).all()


@pytest.mark.parametrize("shape", [(4000, 4000), (64, 32), (32, 64)])
def test_a_frame_of_another_size_than_its_header_is_not_decoded(shape: tuple[int, int], tmp_path: Path) -> None:
    Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "frame.jpg")
    Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "frame.j2k", no_jp2=True)
    for name, syntax in (("frame.jpg", "1.2.840.10008.1.2.4.50"), ("frame.j2k", "1.2.840.10008.1.2.4.90")):
        data = j2k(np.zeros((64, 64), np.uint8), syntax, (tmp_path / name).read_bytes())
        with pytest.raises(UnreadableError, match="another size than its header"):
            read(data)


def test_run_length_segments_do_not_grow_beyond_their_plane() -> None:
    bomb = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + b"\x81\x07" * (1 << 20)
    data = j2k(np.zeros((64, 64), np.uint8), "1.2.840.10008.1.2.5", bomb)
    assert len(decoders._unpack(bomb[64:], 64 * 64)) == 4096
    assert set(np.unique(read(data))) == {0}


# A decoder that is missing


def test_a_missing_decoder_is_a_reason_that_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "import importlib.util; found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'imagecodecs' else found(name, *a)\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "from pydicom import data; from pathlib import Path\n"
        "from cxr.images.dicom.file import read_dataset; from cxr.images.dicom.pixels import PIXEL_TAGS, read_levels\n"
        "for name in ('SC_rgb_jpeg_gdcm.dcm', 'JPEGLSNearLossless_16.dcm', 'JPGExtended.dcm'):\n"
        "    file = Path(data.__file__).parent / 'test_files' / name\n"
        "    try: read_levels(read_dataset(file.read_bytes(), PIXEL_TAGS))\n"
        "    except Exception as error: print(repr(error.reason), error.detail)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, ("JPEG Lossless", "JPEG-LS", "JPEG Extended"), strict=True):
        assert line.startswith(f"'missing_decoder' {name}")
        assert line.endswith("needs imagecodecs: install cxr with the extra [dicom], then run again")


# pydicom's own test files

SOMETHING_ELSE = {
    "693_J2KI.dcm": "CT",
    "CT_small.dcm": "CT",
    "ExplVR_BigEnd.dcm": "US",
    "ExplVR_LitEndNoMeta.dcm": "RTPLAN",
    "J2K_pixelrep_mismatch.dcm": "CT",
    "JPEG-lossy.dcm": "NM",
    "JPEG2000-embedded-sequence-delimiter.dcm": "NM",
    "JPEG2000.dcm": "NM",
    "JPGExtended.dcm": "NM",
    "MR_small.dcm": "MR",
    "MR_small_RLE.dcm": "MR",
    "MR_small_bigendian.dcm": "MR",
    "MR_small_expb.dcm": "MR",
    "MR_small_implicit.dcm": "MR",
    "MR_small_jp2klossless.dcm": "MR",
    "MR_small_jpeg_ls_lossless.dcm": "MR",
    "MR_small_padded.dcm": "MR",
    "MR_truncated.dcm": "MR",
    "badVR.dcm": "RTDOSE",
    "examples_jpeg2k.dcm": "US",
    "examples_overlay.dcm": "MR",
    "examples_palette.dcm": "US",
    "examples_rgb_color.dcm": "US",
    "examples_ybr_color.dcm": "US",
    "liver_1frame.dcm": "SEG",
    "liver_expb_1frame.dcm": "SEG",
    "reportsi.dcm": "SR",
    "reportsi_with_empty_number_tags.dcm": "SR",
    "rtdose.dcm": "RTDOSE",
    "rtdose_1frame.dcm": "RTDOSE",
    "rtdose_expb.dcm": "RTDOSE",
    "rtdose_expb_1frame.dcm": "RTDOSE",
    "rtdose_rle.dcm": "RTDOSE",
    "rtdose_rle_1frame.dcm": "RTDOSE",
    "rtplan.dcm": "RTPLAN",
    "rtplan_truncated.dcm": "RTPLAN",
    "rtstruct.dcm": "RTSTRUCT",
    "test-SR.dcm": "SR",
    "waveform_ecg.dcm": "ECG",
}
"""Files whose modality is no radiograph's; their pixels are read all the same below."""
NO_PIXELS = "no PixelData (7FE0,0010): a report, a plan or a waveform"
REFUSED = {
    "SC_rgb_rle_16bit_2frame.dcm": ("dicom_of_something_else", "several frames"),
    "SC_rgb_rle_2frame.dcm": ("dicom_of_something_else", "several frames"),
    "SC_rgb_rle_32bit_2frame.dcm": ("dicom_of_something_else", "several frames"),
    "UN_sequence.dcm": ("dicom_of_something_else", NO_PIXELS),
    "empty_charset_LEI.dcm": ("dicom_of_something_else", NO_PIXELS),
    "image_dfl.dcm": ("unsupported_format", "deflated DICOM: Deflated Explicit VR Little Endian"),
    "meta_missing_tsyntax.dcm": ("damaged", "Rows (0028,0010) is missing or no whole number"),
    "nested_priv_SQ.dcm": ("damaged", "Rows (0028,0010) is missing or no whole number"),
    "no_meta_group_length.dcm": ("dicom_of_something_else", NO_PIXELS),
    "priv_SQ.dcm": ("dicom_of_something_else", NO_PIXELS),
} | {name: ("dicom_of_something_else", f"modality '{code}'") for name, code in SOMETHING_ELSE.items()}
RIGHT = (
    "GDCMJ2K_TextGBR.dcm",
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "SC_jpeg_no_color_transform.dcm",
    "SC_jpeg_no_color_transform_2.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_dcmtk_+eb+cy+n1.dcm",
    "SC_rgb_dcmtk_+eb+cy+n2.dcm",
    "SC_rgb_dcmtk_+eb+cy+np.dcm",
    "SC_rgb_dcmtk_+eb+cy+s2.dcm",
    "SC_rgb_dcmtk_+eb+cy+s4.dcm",
    "SC_rgb_gdcm_KY.dcm",
    "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jls_lossy_sample.dcm",
    "SC_rgb_jpeg.dcm",
    "SC_rgb_jpeg_app14_dcmd.dcm",
    "SC_rgb_jpeg_dcmd.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_jpeg_lossy_gdcm.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_rle_16bit.dcm",
    "SC_rgb_rle_32bit.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
)
NO_DICOM = (
    "ExplVR_BigEndNoMeta.dcm",  # retired, and begins with zeros
    "no_meta.dcm",  # begins with a shifted byte
)


def installed_files() -> dict[str, Path]:
    """The files in the package; pydicom's own functions would ask the network for others."""
    return {path.name: path for path in (Path(data.__file__).parent / "test_files").glob("*.dcm")}


def test_the_table_has_every_file_that_pydicom_brings() -> None:
    assert set(installed_files()) == {*REFUSED, *RIGHT, *NO_DICOM}


@pytest.mark.parametrize("name", sorted({*REFUSED, *NO_DICOM}))
def test_pydicoms_files_that_are_no_radiographs_are_refused(name: str) -> None:
    data = installed_files()[name].read_bytes()
    assert is_dicom(data) == (name not in NO_DICOM)
    if name in NO_DICOM:
        return
    reason, detail = REFUSED[name]
    with pytest.raises(UnreadableError) as caught:
        require_radiograph(read_dataset(data, PIXEL_TAGS))
    assert caught.value.reason == reason
    assert caught.value.detail.startswith(detail)


def by_dcmtk(path: Path, folder: Path, *options: str) -> np.ndarray:
    """What dcmtk shows: shape (rows, columns), 16 bits, or (rows, columns, 3), 8 bits."""
    is_jpeg_ls = any(part in path.name.lower() for part in ("jls", "jpegls", "jpeg_ls"))
    program = "dcml2pnm" if is_jpeg_ls else "dcmj2pnm"
    out = folder / "out.pnm"
    subprocess.run([program, *options, "+opw", str(path), str(out)], check=True, capture_output=True)
    kind, *numbers = out.read_text().split()
    columns, rows, most, *values = map(int, numbers)
    shape = (rows, columns, 3) if kind == "P3" else (rows, columns)
    array = np.array(values).reshape(shape)
    return (array * 255.0 / most).round() if kind == "P3" else array


UNREAD_BY_DCMTK = ("GDCMJ2K_TextGBR.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_rle_32bit.dcm", "SC_rgb_jpeg.dcm")
DCMTK = [
    *(name for name in RIGHT if name not in UNREAD_BY_DCMTK),
    *("CT_small.dcm", "ExplVR_BigEnd.dcm", "JPEG-lossy.dcm", "JPGExtended.dcm", "MR_small.dcm", "MR_small_RLE.dcm"),
    *("MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm"),
    *("examples_overlay.dcm", "examples_rgb_color.dcm", "liver_1frame.dcm"),
]
"""What dcmtk 3.6.7 reads: no JPEG 2000, no 32 bits."""


@needs_dcmtk
@needs_codecs
@pytest.mark.parametrize("name", DCMTK)
def test_pydicoms_files_look_as_dcmtk_shows_them(name: str, tmp_path: Path) -> None:
    path = installed_files()[name]
    dataset = read_dataset(path.read_bytes(), PIXEL_TAGS)
    found = read_levels(dataset).astype(float)
    options = ["-O"] + (["+Wi", "1"] if dataset.get("WindowCenter") is not None else [])
    expected = by_dcmtk(path, tmp_path, *options)
    assert found.shape == expected.shape
    if found.ndim == 3:
        assert np.abs(found - expected).max() <= 3
        return
    is_shown = np.ones(found.shape, bool)
    if "PixelPaddingValue" in dataset:  # which dcmtk shows as any other value
        is_shown = found > 0
    slope, offset = np.polyfit(expected[is_shown], found[is_shown], 1)
    assert slope > 0
    assert np.abs(expected[is_shown] * slope + offset - found[is_shown]).max() <= 1


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_expb.dcm", "MR_small_RLE.dcm"])
def test_the_same_image_in_other_syntaxes_is_the_same(name: str) -> None:
    files = installed_files()
    assert (read(files[name].read_bytes()) == read(files["MR_small.dcm"].read_bytes())).all()


@pytest.mark.parametrize("name", ["693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "JPEG2000.dcm", "rtdose_rle_1frame.dcm"])
def test_grey_files_are_what_pydicoms_functions_give(name: str) -> None:
    import pydicom
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    dataset = pydicom.dcmread(installed_files()[name])
    stored = dataset.pixel_array
    values = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(float)
    is_shown = stored != dataset.get("PixelPaddingValue", 1 << 30)
    found = read(installed_files()[name].read_bytes())
    least, most = values[is_shown].min(), values[is_shown].max()
    expected = ((values - least) * 255 / (most - least)).round()
    assert np.abs(found - expected)[is_shown].max() <= 1
    assert not found[~is_shown].any()


@pytest.mark.parametrize("name", ["examples_jpeg2k.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_rle.dcm"])
def test_colour_files_are_what_pydicom_gives(name: str) -> None:
    import pydicom

    found = read(installed_files()[name].read_bytes())
    assert (found == pydicom.dcmread(installed_files()[name]).pixel_array).all()


@needs_codecs
def test_a_jpeg_2000_file_that_pillow_cannot_read_is_read() -> None:
    found = read(installed_files()["GDCMJ2K_TextGBR.dcm"].read_bytes())
    assert found.shape == (400, 400, 3)
    assert (found[:40, :40] == found[0, 0]).all()


def test_a_jpeg_and_what_another_program_unpacked_of_it_are_the_same() -> None:
    files = installed_files()
    unpacked = read(files["SC_rgb_jpeg_dcmd.dcm"].read_bytes())
    assert np.abs(read(files["SC_rgb_jpeg.dcm"].read_bytes()) - unpacked).max() <= 3


def test_a_colour_image_of_32_bits_is_scaled() -> None:
    files = installed_files()
    expected = read(files["SC_rgb_rle.dcm"].read_bytes())
    for name in ("SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm"):
        assert (read(files[name].read_bytes()) == expected).all()


def test_ybr_in_pairs_is_what_the_same_picture_is_in_rgb() -> None:
    files = installed_files()
    ybr, rgb = (
        read(files[name].read_bytes()) for name in ("SC_ybr_full_422_uncompressed.dcm", "SC_rgb_dcmtk_+eb+cr.dcm")
    )
    assert np.abs(ybr - rgb).max() <= 6  # at edges: the one is JPEG, the other shares colours in pairs
    assert np.abs(ybr - rgb).mean() <= 1


def test_pixels_that_are_broken_are_refused() -> None:
    for name in ("JPEG2000-embedded-sequence-delimiter.dcm", "MR_truncated.dcm", "badVR.dcm"):
        with pytest.raises(UnreadableError):
            read(installed_files()[name].read_bytes())


@pytest.mark.timeout(20)
@pytest.mark.parametrize("length", [0, 1])
def test_boxes_that_lead_nowhere_are_not_followed_for_ever(length: int, tmp_path: Path) -> None:
    pixels = body(8)
    Image.fromarray(pixels).save(tmp_path / "frame.jp2", irreversible=False)
    frame = (tmp_path / "frame.jp2").read_bytes()
    syntax = "1.2.840.10008.1.2.4.90"
    assert (read(j2k(pixels, syntax, frame)) == spread(pixels)).all()
    bent = frame[:12] + length.to_bytes(4, "big") + frame[16:]  # of the second box
    with pytest.raises(UnreadableError, match="damaged: DICOM whose JPEG 2000 boxes lead to no image"):
        read(j2k(pixels, syntax, bent))


def test_a_value_representation_that_does_not_exist_is_damage() -> None:
    data = make_dicom()
    at = data.index(b"\x08\x00\x60\x00CS")
    with pytest.raises(UnreadableError, match="damaged: DICOM that cannot be parsed"):
        read(data[: at + 4] + b"C\x00" + data[at + 6 :])
