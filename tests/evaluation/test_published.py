import hashlib

import pytest

from cxr.evaluation import published
from cxr.evaluation.published import is_kaggle

NAMES = ("test/NORMAL/IM-0001-0001.jpeg", "train/PNEUMONIA/person1_virus_6.jpeg")


@pytest.fixture(autouse=True)
def _set_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "FILE_NAMES_SHA256", hashlib.sha256("\n".join(NAMES).encode()).hexdigest())


def test_the_set_is_known_by_its_names_in_any_order_and_when_the_archive_holds_it_twice() -> None:
    assert is_kaggle(reversed(NAMES))
    assert is_kaggle([*NAMES, *(f"chest_xray/{name}" for name in NAMES)])


def test_another_set_of_the_same_classes_is_another_set() -> None:
    assert not is_kaggle(NAMES[:1])
    assert not is_kaggle([*NAMES, "train/NORMAL/mine.jpeg"])
    assert not is_kaggle(["train/NORMAL/a.png", "train/PNEUMONIA/b.png"])
