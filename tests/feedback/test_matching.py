"""Which scored image a row means."""

import pandas as pd
import pytest

from cxr.errors import DataError
from cxr.feedback.matching import ScoredImages
from tests.support.scores import image_id_of


def scored(*rows: tuple[str, int]) -> ScoredImages:
    return ScoredImages(pd.DataFrame([(key, image_id_of(image)) for key, image in rows], columns=["key", "image_id"]))


KEYS = ("mon/ward/a.png", 1), ("tue/b.dcm", 2), ("c.png", 3)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (image_id_of(2), "tue/b.dcm"),
        ("mon/ward/a.png", "mon/ward/a.png"),
        ("/archive/inbox/mon/ward/a.png", "mon/ward/a.png"),
        ("ward\\a.png", "mon/ward/a.png"),
        ("b", "tue/b.dcm"),
        ("c.jpeg", "c.png"),
    ],
)
def test_an_image_is_found_by_its_hash_or_path_or_name(value: str, key: str) -> None:
    images = scored(*KEYS)
    files = [name for name, _ in KEYS]
    assert images.find([value], files, lambda _: None) == {value: key}
    assert images.image_id(key) == image_id_of(dict(KEYS)[key])
    assert images.unmatched == []


def test_files_are_asked_for_their_uid_only_where_no_name_fits() -> None:
    images = scored(("mon/x", 1), ("mon/1.2.840.5.dcm", 2))
    files = ["mon/x", "mon/1.2.840.5.dcm"]
    uids = {"mon/x": "1.2.840.9"}
    assert images.find(["1.2.840.9"], files, uids.get) == {"1.2.840.9": "mon/x"}

    def never(_: str) -> str:
        raise AssertionError

    assert images.find(["1.2.840.5", "1.2.840.7"], files, never) == {"1.2.840.5": "mon/1.2.840.5.dcm"}
    assert images.unmatched == ["1.2.840.7"]


def test_a_name_of_two_contents_is_refused_and_the_batch_or_the_hash_tells_them_apart() -> None:
    keys = ("mon/a.png", 1), ("tue/a.png", 2)
    files = [name for name, _ in keys]
    with pytest.raises(
        DataError, match=r"'a.png' is two scored images, 'mon/a.png' and 'tue/a.png', .* \(BATCH/PATH\)"
    ):
        scored(*keys).find(["a.png"], files, lambda _: None)
    assert scored(*keys).find(["tue/a.png"], files, lambda _: None) == {"tue/a.png": "tue/a.png"}


def test_a_file_that_was_replaced_under_its_name_is_told_apart_by_the_hash_alone() -> None:
    keys = ("mon/a.png", 1), ("mon/a.png", 2)
    with pytest.raises(DataError, match="two scored images"):
        scored(*keys).find(["mon/a.png"], ["mon/a.png"], lambda _: None)
    images = scored(*keys)
    found = images.find([image_id_of(1), image_id_of(2)], ["mon/a.png"], lambda _: None)
    assert len(set(found.values())) == 2
    assert [images.image_id(key) for key in found.values()] == [image_id_of(1), image_id_of(2)]


def test_an_image_with_two_names_is_one() -> None:
    keys = ("mon/a.png", 1), ("tue/a.png", 1)
    found = scored(*keys).find(["a.png", "tue/a.png"], [name for name, _ in keys], lambda _: None)
    assert set(found.values()) == {"mon/a.png"}
