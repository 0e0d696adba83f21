from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxr.errors import DamagedError, UnreadableError
from cxr.images.dicom import patient
from tests.support.images import RAMP, make_dicom


def test_another_key_gives_another_hash_and_the_same_key_the_same(tmp_path: Path) -> None:
    key = patient.patient_key(tmp_path / "a")
    other_key = patient.patient_key(tmp_path / "b")
    assert key == patient.patient_key(tmp_path / "a")
    image, later = make_dicom(), make_dicom(RAMP // 2)
    assert (
        patient.hash_patient(image, key) == patient.hash_patient(later, key) != patient.hash_patient(image, other_key)
    )
    assert patient.hash_patient(make_dicom(PatientID=None), key) is None


def test_an_image_whose_patient_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="its patient id cannot be read") as caught:
        patient.hash_patient(make_dicom(syntax=DeflatedExplicitVRLittleEndian), patient.patient_key(tmp_path))
    assert "SECRET" not in str(caught.value)


def test_an_emptied_key_is_refused_and_one_that_others_can_read_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, file = patient.patient_key(tmp_path), tmp_path / "patient.key"
    assert "can be read by others" not in caplog.text
    file.chmod(0o640)
    assert patient.patient_key(tmp_path) == key
    assert f"{file} can be read by others, who can then guess patient ids: chmod 600 it" in caplog.text
    for data in (b"", key[:-1], key * 2):
        file.write_bytes(data)
        with pytest.raises(DamagedError, match=rf"patient\.key' must have 32 bytes, got {len(data)}: put back a copy"):
            patient.patient_key(tmp_path)


NOBODY = ["ANONYMOUS", "anon", "Anonymized^^^", "UNKNOWN", "n/a", "NA", "0", "00", "XXX", "---", "de-identified"]


@pytest.mark.parametrize("patient_id", NOBODY)
def test_an_id_that_stands_for_nobody_is_a_placeholder(patient_id: str) -> None:
    assert patient.hash_patient(make_dicom(PatientID=patient_id), b"key") == patient.PLACEHOLDER


@pytest.mark.parametrize("patient_id", ["ANON0001", "100", "A0", "NA-7", "Anonymous-2"])
def test_a_pseudonym_is_a_patient(patient_id: str) -> None:
    hashed = patient.hash_patient(make_dicom(PatientID=patient_id), b"key")
    assert hashed is not None
    assert hashed != patient.PLACEHOLDER


def test_without_an_id_there_is_no_placeholder() -> None:
    assert patient.hash_patient(make_dicom(PatientID="  "), b"key") is None
