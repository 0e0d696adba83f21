import pytest

from cxr.classes import Classes
from cxr.errors import PackageError
from cxr.export.referral import require_enough, too_few
from tests.support.predictions import simulate

TWO = Classes(("NORMAL", "PNEUMONIA"))


def test_the_class_with_the_fewest_patients_is_named() -> None:
    assert too_few([9, 9], TWO, 0.1) is None
    assert too_few([12, 8], TWO, 0.1) == "there are 8 of PNEUMONIA"
    assert too_few([1, 8], TWO, 0.1) == "there is 1 of NORMAL"


def test_the_share_that_the_patients_allow_is_named_if_it_is_one_that_may_be_asked_for() -> None:
    images = simulate(60)
    require_enough(images, 0.2)
    with pytest.raises(
        PackageError, match=r"--refer 0\.001 needs 999 patients of each class, .*: give --refer 0\.0\d+ "
    ):
        require_enough(images, 0.001)
    label = images.predictions["label"].where(images.predictions.index != 0, "bacteria")
    lonely = Classes(("NORMAL", "PNEUMONIA", "bacteria", "virus"))
    with pytest.raises(PackageError, match="there are 0 of virus: leave it out"):
        require_enough(type(images)(images.predictions.assign(label=label), lonely), 0.3)
