import pandas as pd
import pytest

from cxr.config import KAGGLE_PATIENT
from cxr.dataset.known_patients import NOBODY, count_patients, most_images_of_a_patient, patients_sentence

IMAGES = pd.DataFrame(
    {
        "image_id": list("aabcdefg"),
        "patient_id": ["p1", "p1", "p1", "p2", "dicom-0123456789abcdef", "dicom-fedcba9876543210", None, "p3"],
        "patient_from": ["name", "name", "name", "name", "dicom", "dicom", None, "path"],
    }
)


def test_patients_are_counted_as_one_counts_by_hand() -> None:
    counts = count_patients(IMAGES)
    assert counts == {
        "patient_ids_from": {
            "DICOM's PatientID": {"n_images": 2, "n_patient_ids": 2},
            "file names": {"n_images": 3, "n_patient_ids": 2},
            "paths": {"n_images": 1, "n_patient_ids": 1},
        },
        "largest_patient": {"patient_id": "p1", "n_images": 2},
        "n_patients_with_several_images": 1,
        "patients_remark": None,
    }
    assert most_images_of_a_patient(IMAGES) == 2


def test_manifests_from_before_a_source_was_written_tell_dicom_by_its_hash() -> None:
    before = IMAGES.drop(columns="patient_from")
    assert count_patients(before)["patient_ids_from"] == {
        "DICOM's PatientID": {"n_images": 2, "n_patient_ids": 2},
        "file names": {"n_images": 4, "n_patient_ids": 3},
    }


@pytest.mark.parametrize("patient_id", [list("12345678"), ["1", "1", *"345678"], None])
def test_nobody_with_two_images_is_a_remark_and_a_copy_is_no_second_image(patient_id: list[str] | None) -> None:
    images = IMAGES.assign(patient_id=patient_id, patient_from="name")
    assert count_patients(images)["patients_remark"] == NOBODY
    assert most_images_of_a_patient(images) == (0 if patient_id is None else 1)


def test_the_sentence_names_the_sources_the_pattern_and_the_largest_patient() -> None:
    assert patients_sentence(count_patients(IMAGES), KAGGLE_PATIENT) == (
        "2 patient ids of 2 images from DICOM's PatientID, 2 patient ids of 3 images from file names with "
        f"{KAGGLE_PATIENT!r}, the pattern of the Kaggle set, 1 patient id of 1 image from paths with "
        f"{KAGGLE_PATIENT!r}, the pattern of the Kaggle set; the largest patient, 'p1', has 2 images"
    )
    assert patients_sentence(count_patients(IMAGES.assign(patient_id=None)), KAGGLE_PATIENT) == "no patient ids"
