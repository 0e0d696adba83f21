"""Which columns are used, and how tables are joined."""

import pandas as pd
import pytest

from cxr.errors import ConfigError, DataError
from cxr.labelling import Labelling
from cxr.labels.columns import find_path_column, join_tables, used_columns
from cxr.labels.tables import Table


def table(name: str = "t.csv", **columns: list[str | None]) -> Table:
    return Table(name, pd.DataFrame(columns).astype("str"), "hash of " + name)


def labelling(**options: object) -> Labelling:
    return Labelling(labels=("t.csv",), **options)


def test_a_misspelt_column_is_named_with_the_nearest() -> None:
    nih = table("Data_Entry_2017.csv", **{"Image Index": ["a"], "Patient ID": ["1"], "label": ["x"]})
    with pytest.raises(
        ConfigError, match=r"column 'Patient Id' is not in Data_Entry_2017.csv; nearest: 'Patient ID'\."
    ):
        used_columns(labelling(patient_column="Patient Id"), [nih], ["label"])
    with pytest.raises(ConfigError, match=r"column 'zzz' is not in Data_Entry_2017.csv; it has 'Image Index', "):
        used_columns(labelling(exclude=("zzz=1",)), [nih], ["label"])


def test_the_path_column_is_the_only_one_whose_values_name_files() -> None:
    files = ["x/a.png", "x/b.png", "x/c.png"]
    one = table(id=["1", "2", "3"], image=["a", "b", "nowhere"], label=["a-b", "x", "y"])
    assert find_path_column(labelling(), [one], (), files) == "image"
    with pytest.raises(ConfigError, match=r"the columns 'image' and 'copy' of t.csv name files: give --path-column"):
        find_path_column(labelling(), [table(image=["a", "b"], copy=["b", "c"])], (), files)
    with pytest.raises(ConfigError, match=r"no column of t.csv names files of the data, such as 'x/a.png'"):
        find_path_column(labelling(), [table(image=["q", "r"])], (), files)
    assert find_path_column(labelling(path_column="id"), [one], (), files) == "id"
    assert find_path_column(labelling(), [table(image=["a", "b"], copy=["b", "c"])], ("copy",), files) == "image"


def test_tables_that_list_images_of_their_own_are_put_below_each_other() -> None:
    train = table("train.csv", path=["a", "b"], reader=["1", "2"], label=["x", "y"])
    valid = table("valid.csv", path=["c"], label=["x"])
    rows = join_tables([train, valid], "path", ["label"], ["label"])
    assert rows.to_numpy().tolist() == [["a", "x"], ["b", "y"], ["c", "x"]]


def test_other_tables_are_joined_on_the_columns_that_they_share_whatever_their_order() -> None:
    split = table("split.csv", dicom=["a", "b", "c"], study=["1", "1", "2"], split=["train", "train", "test"])
    views = table("views.csv", dicom=["a", "b", "c"], view=["PA", "LL", "PA"])
    labels = table("labels.csv", study=["1", "2", "3"], Pneumonia=["1", "0", "1"])
    for tables in ([split, views, labels], [labels, views, split]):
        rows = join_tables(tables, "dicom", ["Pneumonia"], ["Pneumonia", "split", "view"])
        assert rows[["dicom", "Pneumonia", "split", "view"]].sort_values("dicom").to_numpy().tolist() == [
            ["a", "1", "train", "PA"],
            ["b", "1", "train", "LL"],
            ["c", "0", "test", "PA"],
        ]


def test_a_row_without_a_partner_in_the_table_of_labels_is_no_row() -> None:
    images = table("images.csv", path=["a", "b"], study=["1", "2"])
    labels = table("labels.csv", study=["1"], label=["x"])
    assert join_tables([images, labels], "path", ["label"], ["label"]).to_numpy().tolist() == [["a", "x"]]


def test_rows_that_say_the_same_stay_where_labels_are_and_are_not_multiplied_by_other_tables() -> None:
    votes = table("votes.csv", path=["a", "a", "a"], reader=["1", "2", "3"], Target=["1", "0", "1"])
    boxes = table("boxes.csv", path=["a", "a"], box=["1", "2"], sex=["F", "F"])
    rows = join_tables([votes, boxes], "path", ["Target"], ["Target", "sex"])
    assert rows.to_numpy().tolist() == [["a", "1", "F"], ["a", "0", "F"], ["a", "1", "F"]]


def test_tables_that_cannot_be_joined_are_refused() -> None:
    images = table("images.csv", path=["a"], study=["1"])
    with pytest.raises(ConfigError, match=r"'labels.csv' has no column in common with images.csv"):
        join_tables([images, table("labels.csv", exam=["1"], label=["x"])], "path", ["label"], ["label"])
    with pytest.raises(DataError, match=r"'labels.csv' has no value of 'study' in common with the other tables"):
        join_tables([images, table("labels.csv", study=["9"], label=["x"])], "path", ["label"], ["label"])
