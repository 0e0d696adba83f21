import pytest

from cxr.config import KAGGLE_PATIENT
from cxr.dataset.patients import KNOWN, SHARED, SHARED_LEAST, Patient, choose_pattern, elsewhere, find_patients
from cxr.images.dicom.patient import PLACEHOLDER

PATTERN = r"^(p\d+)_"


def found(paths: list[str], dicom_ids: list[str | None], pattern: str = KAGGLE_PATIENT) -> list[Patient]:
    return find_patients(paths, dicom_ids, choose_pattern(paths, pattern))


def test_a_pattern_that_was_given_comes_before_the_id_of_dicom() -> None:
    patients = found(["A/p1_a.dcm", "B/p2_b.png", "A/c.dcm", "B/d.png"], ["dicom-1", None, "dicom-3", None], PATTERN)
    assert patients == [Patient("p1", "name"), Patient("p2", "name"), Patient("dicom-3", "dicom"), Patient(None)]


def test_an_id_of_dicom_comes_before_a_pattern_that_is_only_known() -> None:
    patients = found(["A/person1_virus_1.dcm", "A/person2_virus_1.png"], ["dicom-1", None])
    assert patients == [Patient("dicom-1", "dicom"), Patient("person2", "name")]


def test_a_placeholder_counts_as_missing_and_the_name_is_asked() -> None:
    patients = found(["A/person1_a.dcm", "A/b.dcm"], [PLACEHOLDER] * 2)
    assert patients == [Patient("person1", "name", SHARED), Patient(None, None, SHARED)]


@pytest.mark.parametrize(
    ("n_shared", "n_others", "is_missing"),
    [(30, 29, True), (30, 30, False), (SHARED_LEAST, 0, True), (SHARED_LEAST - 1, 0, False)],
)
def test_an_id_that_most_images_share_is_nobodys(n_shared: int, n_others: int, is_missing: bool) -> None:
    ids: list[str | None] = ["dicom-hospital"] * n_shared
    ids += [f"dicom-{k}" for k in range(n_others)]
    patients = found([f"person{k}_.dcm" for k in range(len(ids))], ids)
    assert patients[0] == (Patient("person0", "name", SHARED) if is_missing else Patient("dicom-hospital", "dicom"))
    assert [patient.patient_id for patient in patients[n_shared:]] == ids[n_shared:]


EXAMPLES = {
    "the Kaggle set": {
        "train/PNEUMONIA/person12_bacteria_47.jpeg": "person12",
        "test/NORMAL/NORMAL2-IM-0115-0001.jpeg": "NORMAL2-IM-0115",
    },
    "Kermany's Mendeley v3": {
        "train/PNEUMONIA/BACTERIA-1008087-0001.jpeg": "1008087",
        "test/NORMAL/NORMAL-1008087-0003.jpeg": "1008087",
    },
    "NIH ChestX-ray14": {"images_001/images/00030805_012.png": "00030805"},
    "CheXpert": {"train/patient00001/study1/view1_frontal.jpg": "patient00001"},
    "MIMIC-CXR": {"files/p10/p10000032/s50414267/02aa804e-bde0afdd.jpg": "p10000032"},
}


@pytest.mark.parametrize("collection", KNOWN)
def test_the_known_pattern_that_fits_the_paths_is_taken_and_named(collection: str) -> None:
    paths = list(EXAMPLES[collection])
    pattern = choose_pattern([*paths, "A/other.png"], KAGGLE_PATIENT)
    assert (pattern.collection, pattern.is_given) == (collection, False)
    assert {path: pattern.find(path) for path in paths} == EXAMPLES[collection]
    assert pattern.find("A/other.png") is None


@pytest.mark.parametrize(
    "path", ["A/20200131_001.png", "A/patient00001.png", "A/p10000032.png", "A/BACTERIA-1.png", "A/1008087-0001.jpeg"]
)
def test_names_that_no_collection_has_have_no_patient(path: str) -> None:
    pattern = choose_pattern([path], KAGGLE_PATIENT)
    assert (pattern.pattern, pattern.collection, pattern.find(path)) == (KAGGLE_PATIENT, None, None)


def test_a_set_with_images_of_another_keeps_the_pattern_of_most() -> None:
    paths = [*EXAMPLES["the Kaggle set"], *EXAMPLES["NIH ChestX-ray14"]]
    assert choose_pattern(paths, KAGGLE_PATIENT).collection == "the Kaggle set"


def test_a_pattern_that_is_in_no_file_name_is_searched_in_the_path() -> None:
    paths = ["A/ward3/case_0007/1.png", "B/ward3/case_0008/2.png", "B/3.png"]
    pattern = choose_pattern(paths, r"case_(\d+)/")
    assert [pattern.find(path) for path in paths] == ["0007", "0008", None]
    in_names = choose_pattern(["7/0001_1.png", "8/other.png"], r"^(\d+)")
    assert [in_names.find(path) for path in ("7/0001_1.png", "8/other.png")] == ["0001", None]


def test_a_group_that_matches_nothing_is_no_id() -> None:
    assert choose_pattern(["A/1.png"], r"^(p\d+)?").find("A/1.png") is None


def test_another_data_set_keeps_a_pattern_that_was_given_alone() -> None:
    assert elsewhere(PATTERN) == PATTERN
    assert elsewhere(KNOWN["MIMIC-CXR"]) == KAGGLE_PATIENT
