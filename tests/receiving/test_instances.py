import pytest
from pydicom.uid import generate_uid

from cxr.images.dicom.file import is_uid
from cxr.receiving.instances import CANNOT_UNDERSTAND, DOES_NOT_MATCH, RefusedError, read_instance
from tests.support.dicom import DX
from tests.support.images import make_dicom


@pytest.mark.parametrize("uid", ["1.2", "0.0", "2.25.123456789", "1.2.840.10008.5.1.4.1.1.1.1", "1." + "2" * 62])
def test_a_uid_is_digits_and_dots(uid: str) -> None:
    assert is_uid(uid)


@pytest.mark.parametrize(
    "uid",
    [
        *("", "1", ".", "..", "1.", ".1", "1..2", "01.2", "1.02", "1.2\n", "1.2 ", "1.²", "1.٣", "1/2", "../1.2"),
        *("1.2.DOE", "1.2\\3", "None", "1." + "2" * 63),
    ],
)
def test_what_is_no_uid_names_no_file(uid: str) -> None:
    assert not is_uid(uid)


def test_a_radiograph_is_what_its_request_says() -> None:
    uid, study = generate_uid(), generate_uid()
    data = make_dicom(SOPInstanceUID=uid, StudyInstanceUID=study)
    instance = read_instance(data, DX, uid)
    assert (instance.uid, instance.study_uid, instance.data) == (uid, study, data)
    assert read_instance(make_dicom(SOPInstanceUID=uid), DX, uid).study_uid is None
    for sop_class, requested in ((DX, generate_uid()), ("1.2.840.10008.5.1.4.1.1.2", uid)):
        with pytest.raises(RefusedError, match="is not that of the request") as refused:
            read_instance(data, sop_class, requested)
        assert refused.value.status == DOES_NOT_MATCH


@pytest.mark.parametrize(
    ("tags", "status", "why"),
    [
        ({"Modality": "CT"}, DOES_NOT_MATCH, "modality 'CT'"),
        ({"PixelData": None}, DOES_NOT_MATCH, "no PixelData"),
        ({"NumberOfFrames": 2}, DOES_NOT_MATCH, "several frames"),
        ({"Rows": 65535, "Columns": 65535}, CANNOT_UNDERSTAND, "at most 100,000,000 pixels"),
        ({"Rows": None}, CANNOT_UNDERSTAND, "Rows"),
        ({"WindowCenter": None, "PhotometricInterpretation": "PALETTE COLOR"}, CANNOT_UNDERSTAND, "palette"),
        ({"SOPInstanceUID": None}, DOES_NOT_MATCH, "SOPInstanceUID"),
    ],
)
def test_what_is_no_radiograph_is_refused(tags: dict[str, object], status: int, why: str) -> None:
    uid = generate_uid()
    with pytest.raises(RefusedError, match=why) as refused:
        read_instance(make_dicom(**{"SOPInstanceUID": uid} | tags), DX, uid)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 500, b"DICM" + b"\xff" * 500, make_dicom()[:300], make_dicom()[:-9000]]
)
def test_what_cannot_be_parsed_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        read_instance(data, DX, "1.2.3")
