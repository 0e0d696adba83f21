import pytest

from cxr.dataset.patients import SHARED, SHARED_LEAST, Patient, find_patients
from cxr.images.dicom.patient import PLACEHOLDER

PATTERN = r"^(p\d+)_"


def test_an_id_of_dicom_comes_before_the_file_name() -> None:
    found = find_patients(["p1_a.dcm", "p2_b.png", "c.png"], ["dicom-1", None, None], PATTERN)
    assert found == [Patient("dicom-1"), Patient("p2"), Patient(None)]


def test_a_placeholder_counts_as_missing_and_the_name_is_asked() -> None:
    found = find_patients(["p1_a.dcm", "b.dcm"], [PLACEHOLDER] * 2, PATTERN)
    assert found == [Patient("p1", SHARED), Patient(None, SHARED)]


@pytest.mark.parametrize(
    ("n_shared", "n_others", "is_missing"),
    [(30, 29, True), (30, 30, False), (SHARED_LEAST, 0, True), (SHARED_LEAST - 1, 0, False)],
)
def test_an_id_that_most_images_share_is_nobodys(n_shared: int, n_others: int, is_missing: bool) -> None:
    ids = ["dicom-hospital"] * n_shared + [f"dicom-{k}" for k in range(n_others)]
    found = find_patients([f"p{k}_.dcm" for k in range(len(ids))], ids, PATTERN)
    assert found[0] == (Patient("p0", SHARED) if is_missing else Patient("dicom-hospital"))
    assert [patient.patient_id for patient in found[n_shared:]] == ids[n_shared:]
