import numpy as np
import pandas as pd
import pytest

from cxr.classes import Classes
from cxr.errors import DataError
from cxr.retraining.set_aside import are_set_aside, require_enough

CLASSES = Classes(("NORMAL", "PNEUMONIA"))


def drawn(n_patients: int, n_each: int = 2) -> pd.DataFrame:
    """Images of patients, some each, that came by feedback."""
    number = np.repeat(np.arange(n_patients), n_each)
    return pd.DataFrame(
        {
            "image_id": [f"image {k}" for k in range(len(number))],
            "patient_id": [f"patient {k}" for k in number],
            "group_id": [f"patient {k}" for k in number],
            "label": [CLASSES[k % 2] for k in number],
            "origin": "feedback",
        }
    )


def test_a_patient_is_set_aside_as_a_whole_and_in_every_retraining() -> None:
    images = drawn(2000)
    is_set_aside = are_set_aside(images, set(), 0.3, seed=0)
    assert is_set_aside.groupby(images["group_id"]).nunique().max() == 1
    assert is_set_aside.mean() == pytest.approx(0.3, abs=0.03)
    fewer = images.sample(frac=0.4, random_state=1)
    pd.testing.assert_series_equal(are_set_aside(fewer, set(), 0.3, seed=0), is_set_aside[fewer.index])
    more = are_set_aside(images, set(), 0.5, seed=0)
    assert (more >= is_set_aside).all(), "a larger share has the smaller one in it"
    assert (are_set_aside(images, set(), 0.3, seed=1) != is_set_aside).any()


def test_a_group_with_an_image_that_the_champion_was_made_from_is_never_set_aside() -> None:
    images = drawn(400)
    images.loc[0::40, "origin"] = "data"
    trained = set(images["image_id"][1::40])
    is_known = (images["origin"] == "data") | images["image_id"].isin(trained)
    touched = set(images.loc[is_known, "group_id"])
    is_set_aside = are_set_aside(images, trained, 0.95, seed=0)
    assert not is_set_aside[images["group_id"].isin(touched)].any()
    assert is_set_aside.mean() > 0.8


def test_too_few_patients_of_a_class_and_nothing_to_train_on_are_refused() -> None:
    images = drawn(60, n_each=1)
    is_set_aside = pd.Series(np.arange(60) < 19)
    with pytest.raises(DataError, match=r"10 patients of each class.* 60 newly .* gives 10 of NORMAL, 9 of PNEUMONIA"):
        require_enough(images, is_set_aside, CLASSES, 0.3)
    require_enough(images, pd.Series(np.arange(60) < 20), CLASSES, 0.3)
    with pytest.raises(DataError, match="sets all 60 newly labelled images aside"):
        require_enough(images, pd.Series(True, index=images.index), CLASSES, 0.9)
