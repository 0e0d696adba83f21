"""Which files are radiographs, and that no reason quotes what a file holds."""

import io
import zlib
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, UID_dictionary

from cxr.errors import UnreadableError
from cxr.images.decoding import decode_image
from cxr.images.dicom.file import DECODED, MODALITIES, RADIOGRAPHS, is_dicom, read_dataset, require_radiograph
from cxr.images.dicom.pixels import PIXEL_TAGS, read_levels
from tests.support.images import RAMP, make_dicom

SYNTAXES = sorted(uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")
SYNTAX_ELEMENT = b"\x02\x00\x10\x00UI\x14\x00" + ExplicitVRLittleEndian.encode() + b"\0"


def with_syntax(uid: str, data: bytes | None = None) -> bytes:
    """A file whose meta names another transfer syntax than the one that it is written in."""
    data = make_dicom() if data is None else data
    value = uid.encode() + b"\0" * (len(uid) % 2)
    assert data.count(SYNTAX_ELEMENT) == 1
    return data.replace(SYNTAX_ELEMENT, b"\x02\x00\x10\x00UI" + len(value).to_bytes(2, "little") + value)


def refusal(data: bytes) -> UnreadableError:
    with pytest.raises(UnreadableError) as caught:
        levels_of_radiograph(data)
    return caught.value


def levels_of_radiograph(data: bytes) -> np.ndarray:
    dataset = read_dataset(data, PIXEL_TAGS)
    require_radiograph(dataset)
    return read_levels(dataset)


@pytest.mark.parametrize("uid", [uid for uid in SYNTAXES if uid not in DECODED])
def test_every_transfer_syntax_that_is_not_read_is_refused_by_its_name(uid: str) -> None:
    refused = refusal(with_syntax(uid))
    assert refused.reason == "unsupported_format"
    assert UID_dictionary[uid][0] in refused.detail


def test_every_transfer_syntax_of_the_standard_is_known() -> None:
    assert set(DECODED) < set(SYNTAXES)
    assert len(SYNTAXES) > 50


@pytest.mark.parametrize("uid", ["1.2.840.113619.5.2", "1.2.3.19700101", "Doe^Jane"])
def test_a_transfer_syntax_that_is_no_syntax_is_not_quoted(uid: str) -> None:
    refused = refusal(with_syntax(uid))
    assert refused.reason == "unsupported_format"
    assert refused.detail == "DICOM as a transfer syntax that is not in the standard"


@pytest.mark.parametrize("n_bytes", [2, 4096, 1 << 20])
def test_deflated_data_is_found_wherever_the_file_meta_names_it(n_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dicom(syntax=DeflatedExplicitVRLittleEndian)
    at = data.index(b"\x02\x00\x10\x00UI")
    before = b"\x02\x00\x01\x00OB\0\0" + n_bytes.to_bytes(4, "little") + bytes(n_bytes)
    monkeypatch.setattr(zlib, "decompress", None)
    monkeypatch.setattr(zlib, "decompressobj", None)
    refused = refusal(data[:at] + before + data[at:])
    assert (refused.reason, refused.detail[:14]) == ("unsupported_format", "deflated DICOM")


@pytest.mark.parametrize("modality", ["CR", "DX", "DR", "RG", "OT", "SC", "", "dx", " DX ", "Cr"])
def test_radiographs_are_read_however_their_modality_is_spelt(modality: str) -> None:
    dataset = read_dataset(make_dicom(Modality=modality), PIXEL_TAGS)
    require_radiograph(dataset)
    assert read_levels(dataset).max() == 255


@pytest.mark.parametrize("modality", sorted(MODALITIES - {*RADIOGRAPHS}))
def test_other_modalities_are_named(modality: str) -> None:
    for spelling in (modality, modality.lower()):
        refused = refusal(make_dicom(Modality=spelling))
        assert (refused.reason, refused.detail) == ("dicom_of_something_else", f"modality {modality!r}")


@pytest.mark.parametrize("value", ["DOE^JANE", "DX\\DOE^JANE", "19700101", "JANE"])
def test_what_is_no_code_of_the_standard_is_not_quoted(value: str) -> None:
    refused = refusal(make_dicom(Modality=value))
    assert refused.reason == "dicom_of_something_else"
    assert refused.detail == "its modality is no code of the standard"


def test_a_length_byte_that_is_wrong_does_not_let_the_patients_name_out() -> None:
    data = make_dicom(Modality="DX", PatientName="Doe^Jane", StudyDate="19700101")
    at = data.index(b"\x08\x00\x60\x00CS\x02\x00")
    changed = data[: at + 6] + b"\x18\x00" + data[at + 8 :]
    assert b"Doe^Jane" in changed[at + 8 : at + 40]
    refused = refusal(changed)
    for part in ("Doe", "Jane", "1970", "\x10"):
        assert part not in str(refused)


@pytest.mark.parametrize("keyword", ["Modality", "PhotometricInterpretation", "VOILUTFunction", "PresentationLUTShape"])
def test_a_name_planted_in_any_text_is_in_no_reason(keyword: str) -> None:
    tags: dict[str, Any] = {"WindowCenter": 5, "WindowWidth": 5, keyword: "DOE^JANE"}
    assert "DOE" not in str(refusal(make_dicom(**tags)))


def test_a_file_without_preamble_is_read_and_one_without_file_meta_too() -> None:
    whole = make_dicom()
    expected = np.asarray(decode_image(whole, 256).grey)
    start = whole.index(b"\x08\x00\x16\x00UI")
    implicit = make_dicom(syntax=ImplicitVRLittleEndian)
    for data in (
        whole[132:],
        whole[128:],
        whole[start:],
        implicit[implicit.index(b"\x08\x00\x16\x00\x1c\x00") :],
    ):
        assert is_dicom(data)
        assert (np.asarray(decode_image(data, 256).grey) == expected).all()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x00",
        b"\xff\xd8\xff\xe0" + bytes(200),
        b"\x89PNG\r\n\x1a\n" + bytes(200),
        bytes(200),
        b"PK\x03\x04" + bytes(200),
        b"\x08\x00\x05\x00" + b"\xff" * 200,
        b"%PDF-1.7" + bytes(200),
    ],
)
def test_other_files_are_no_dicom(data: bytes) -> None:
    assert not is_dicom(data)


def test_a_directory_a_report_and_a_file_without_pixels_are_something_else() -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    directory = Dataset()
    directory.file_meta = meta
    directory.FileSetID = "DOE^JANE"
    directory.DirectoryRecordSequence = []
    stream = io.BytesIO()
    directory.save_as(stream, enforce_file_format=True)
    assert refusal(stream.getvalue()).detail == "a DICOMDIR, which lists files and holds no image"
    assert refusal(make_dicom(Modality="SR", PixelData=None)).detail == "modality 'SR'"
    refused = refusal(make_dicom(PixelData=None))
    assert (refused.reason, refused.detail[:24]) == ("dicom_of_something_else", "no PixelData (7FE0,0010)")


def test_several_frames_are_refused_however_they_are_declared() -> None:
    pixels = {"PixelData": RAMP.tobytes() * 2}
    assert refusal(make_dicom(NumberOfFrames=2, **pixels)).detail == "several frames"
    assert refusal(make_dicom(**pixels)).detail == "DICOM with 30,720 bytes of pixels where 15,360 are declared"
    assert "NumberOfFrames (0028,0008)" in refusal(make_dicom(NumberOfFrames=1.5)).detail


def test_declared_sizes_are_looked_at_before_pixels() -> None:
    refused = refusal(make_dicom(Rows=60_000, Columns=60_000))
    assert (refused.reason, refused.detail) == ("too_large", "60000×60000, at most 100,000,000 pixels")


@pytest.mark.parametrize("at", range(140, 900, 7))
def test_a_file_that_is_cut_off_anywhere_has_a_reason(at: int) -> None:
    refused = refusal(make_dicom()[:at])
    assert refused.reason in ("damaged", "truncated", "dicom_of_something_else", "unsupported_format")
    assert "Doe" not in str(refused)
    assert "SECRET" not in str(refused)
