import pandas as pd
import pytest

from cxr.errors import DataError
from cxr.labels.patients import hash_patients, require_patients_of_images

KEY = bytes(range(32))


def test_equal_ids_have_equal_hashes_that_depend_on_the_key_and_hide_the_id() -> None:
    ids = pd.Series(["4711", "4711", "0", None, "unknown", "N.A."], dtype="str")
    found = hash_patients(ids, lambda: KEY)
    assert found[0] == found[1] != found[2]
    assert found[:3].str.fullmatch(r"table-[0-9a-f]{16}").all()
    assert found[3:].isna().all(), "words that stand for nobody"
    assert hash_patients(ids, lambda: bytes(32))[0] != found[0]


def test_ids_of_images_are_not_taken_for_patients() -> None:
    names = [f"{k:04d}cfab" for k in range(10)]
    ids = pd.Series(names, name="patientId")
    with pytest.raises(DataError, match="every patient id stands on one image: is 'patientId' the id of an image"):
        require_patients_of_images(ids, ids)
    with pytest.raises(DataError, match="every patient id"):
        require_patients_of_images(pd.Series(names * 2, name="patientId"), pd.Series(names * 2))
    require_patients_of_images(pd.Series([*names, names[0]], name="patientId"), pd.Series([*names, "another"]))
    require_patients_of_images(ids.rename("patient_id"), ids)  # the name that this program's own tables have
