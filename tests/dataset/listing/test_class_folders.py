import pytest

from cxr.dataset.listing.class_folders import Place, find_places, why_no_class

PLACES = {
    "A/1.png": Place((), "A", None),
    "train/A/1.png": Place((), "A", "train"),
    "set/Validation/A/1.png": Place(("set",), "A", "val"),
    "a/b/A/1.png": Place(("a", "b"), "A", None),
    "A/images/1.png": Place((), "A", None),
    "test/A/IMAGES/1.png": Place((), "A", "test"),
    "train/images/1.png": Place((), "images", "train"),
    "images/1.png": Place((), "images", None),
    "A/patient00001/study12/view1_frontal.jpg": Place((), "A", None),
    "dev/A/p10/p10000032/s50414267/x.jpg": Place((), "A", "val"),
    "A/p10000032/s50414267/x.jpg": Place((), "A", None),
    "p10/p10000032/s50414267/x.jpg": Place((), None, None),
    "1.png": Place((), None, None),
}


@pytest.mark.parametrize("path", PLACES)
def test_the_folders_of_a_path_say_class_split_and_root(path: str) -> None:
    assert find_places([path]) == {path: PLACES[path]}


@pytest.mark.parametrize(
    ("paths", "class_folders"),
    [
        (["A/train/1.png", "A/test/1.png", "B/train/1.png"], ["A", "A", "B"]),
        (["A/train/1.png", "B/1.png"], ["A", "B"]),
        (["train/1.png", "test/1.png"], ["train", "test"]),
        (["set/train/1.png", "set/test/1.png"], ["train", "test"]),
        (["A/train/1.png", "A/B/1.png", "C/test/1.png"], ["train", "B", "C"]),
    ],
)
def test_a_folder_above_splits_is_a_class_if_it_holds_nothing_else_and_is_not_alone(
    paths: list[str], class_folders: list[str]
) -> None:
    assert [place.class_folder for place in find_places(paths).values()] == class_folders


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("train", "the name of a split"),
        ("VALID", "the name of a split"),
        ("Testing", "the name of a split"),
        ("dev", "the name of a split"),
        ("54", "a number"),
        ("images_012", "a word for files"),
        ("Masks", "a word for files"),
        ("annotations", "a word for files"),
        ("0_normal", None),
        ("NORMAL", None),
        ("trained", None),
    ],
)
def test_a_name_that_is_hardly_a_class_says_what_it_is(folder: str, why: str | None) -> None:
    assert why_no_class(folder) == why
