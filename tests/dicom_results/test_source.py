import io
from datetime import UTC, datetime

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from cxr.dicom_results.source import IDENTITY, SourceError, read_source
from tests.support.dicom import NAMES, PATIENT
from tests.support.images import make_dicom

UIDS = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}


def identified(data: bytes) -> Dataset:
    """An instance with the identity of an image, written and read again."""
    instance = Dataset()
    instance.SpecificCharacterSet = "ISO_IR 192"
    read_source(data).identify(instance)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, instance, implicit_vr=False, little_endian=True)
    stream.seek(0)
    return pydicom.dcmread(stream, force=True)


def test_patient_and_study_are_those_of_the_image_in_another_character_set() -> None:
    data = make_dicom(**PATIENT, **UIDS)
    before, after = pydicom.dcmread(io.BytesIO(data)), identified(data)
    for keyword in IDENTITY:
        assert str(after.get(keyword)) == str(before.get(keyword)), keyword
    assert after.PatientName.family_name == "Müller"


def test_what_an_image_does_not_say_is_there_and_empty() -> None:
    after = identified(make_dicom(**UIDS, PatientName=None, PatientBirthDate=None))
    assert not after.PatientName
    assert after.StudyDate == after.AccessionNumber == after.PatientBirthDate == ""


def test_values_that_break_the_standard_are_copied_as_they_are(recwarn: pytest.WarningsRecorder) -> None:
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    data = make_dicom(**UIDS, PatientBirthDate="SECRET-1970", PatientSex="female", PatientID="SECRET" * 20)
    pydicom.config.settings.writing_validation_mode = None  # pyright: ignore[reportAttributeAccessIssue]
    after = identified(data)
    assert (after.PatientBirthDate, after.PatientSex, after.PatientID) == ("SECRET-1970", "female", "SECRET" * 20)
    assert not [warning for warning in recwarn if "SECRET" in str(warning.message)]


def test_libraries_see_whose_image_it_is_nowhere() -> None:
    source = read_source(make_dicom(**PATIENT, **UIDS))
    seen = str(source.stand_in)
    assert source.dataset.SOPInstanceUID in seen
    assert not [name for name in NAMES if name in seen]


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"StudyInstanceUID": None}, "StudyInstanceUID (0020,000D) is missing or no UID"),
        ({"StudyInstanceUID": "SECRET"}, "StudyInstanceUID (0020,000D) is missing or no UID"),
        ({"SeriesInstanceUID": None}, "SeriesInstanceUID (0020,000E) is missing or no UID"),
        ({"PatientID": None}, "PatientID (0010,0020) is missing"),
        ({"PatientID": " "}, "PatientID (0010,0020) is missing"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"},
            "SOPClassUID (0008,0016) is neither a radiograph's nor a secondary capture's",
        ),
    ],
)
def test_an_image_without_a_place_for_results_is_refused_without_quoting_a_value(
    tags: dict[str, str | None], reason: str
) -> None:
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    data = make_dicom(**(PATIENT | UIDS | tags))
    pydicom.config.settings.writing_validation_mode = None  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(SourceError) as raised:
        read_source(data)
    assert str(raised.value) == reason


def test_a_name_that_its_character_set_cannot_decode_is_refused_rather_than_changed() -> None:
    data = make_dicom(**(PATIENT | UIDS | {"PatientName": "Xx^Yy", "SpecificCharacterSet": "ISO_IR 192"}))
    with pytest.raises(SourceError, match=r"^PatientName \(0010,0010\) cannot be decoded"):
        read_source(data.replace(b"Xx^Yy", b"\xfc\xfc^Yy"))


@pytest.mark.parametrize(("offset", "hour"), [("+0100", 13), ("-0330", 8), ("+0000", 12)])
def test_moments_are_in_the_time_zone_of_the_image(offset: str, hour: int) -> None:
    source = read_source(make_dicom(**PATIENT | UIDS | {"TimezoneOffsetFromUTC": offset}))
    assert source.local(datetime(2026, 11, 27, 12, 0, tzinfo=UTC)).hour == hour


def test_without_a_time_zone_moments_are_in_that_of_this_machine() -> None:
    moment = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
    source = read_source(make_dicom(**PATIENT | UIDS | {"TimezoneOffsetFromUTC": "SECRET"}))
    assert source.local(moment).replace(tzinfo=None) == moment.astimezone().replace(tzinfo=None)
