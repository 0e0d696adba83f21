"""Which rows of tables count, and which image each of them means."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxr.errors import ConfigError, DataError
from cxr.images.source import open_source
from cxr.labelling import Labelling
from cxr.labels.meanings import PATH_LABEL
from cxr.labels.rows import FILE, VIEW, find_rows, first_groups, of_views, read_tag, without_excluded
from cxr.labels.tables import Table
from tests.support.images import make_dicom

FILES = ["sick/a.png", "sick/b.png", "well/c.png"]
Tree = Callable[[dict[str, bytes]], Path]


def table(**columns: list[str | None]) -> Table:
    return Table("t.csv", pd.DataFrame(columns).astype("str"), "0" * 64)


def found(root: Path, of: Table, files: list[str] = FILES, **options: object) -> pd.DataFrame:
    return find_rows([of], Labelling(labels=("t.csv",), **options), open_source(str(root)), files, None)


@pytest.fixture
def root(tree: Tree) -> Path:
    return tree(dict.fromkeys(FILES, b"1"))


def test_without_tables_each_image_is_a_row_with_the_label_of_its_path(root: Path) -> None:
    labelling = Labelling(label_pattern="^(sick|well)/[ac]")
    rows = find_rows([], labelling, open_source(str(root)), FILES, None)
    assert rows.to_dict("list") == {FILE: ["sick/a.png", "well/c.png"], PATH_LABEL: ["sick", "well"]}


def test_a_pattern_that_no_path_has_is_refused_with_an_example(root: Path) -> None:
    with pytest.raises(DataError, match=r"--label-pattern '\(TB\)' is found in no path, such as 'sick/a.png'"):
        find_rows([], Labelling(label_pattern="(TB)"), open_source(str(root)), FILES, None)


def test_the_group_of_a_pattern_is_missing_where_it_is_not_found_or_empty() -> None:
    groups = first_groups("^(x*)a", pd.Series(["xxa", "a", "b"], index=[4, 5, 6]))
    assert groups.dropna().to_dict() == {4: "xx"}


def test_rows_get_their_file_and_those_of_missing_files_only_on_demand(root: Path) -> None:
    of = table(name=["b", "nowhere", "c"], label=["x", "y", "y"])
    with pytest.raises(DataError, match=r"1 of 3 rows name no file, such as 'nowhere': give --missing-films allow"):
        found(root, of)
    rows = found(root, of, missing_films="allow")
    assert rows[[FILE, "label"]].to_numpy().tolist() == [["sick/b.png", "x"], ["well/c.png", "y"]]
    assert rows.index.tolist() == [0, 1]


def test_a_missing_file_that_an_option_leaves_out_is_no_mistake(root: Path) -> None:
    of = table(name=["b", "nowhere"], label=["x", "y"], device=["DX", "CT"])
    assert found(root, of, exclude=("device=CT",))[FILE].tolist() == ["sick/b.png"]


def test_a_row_of_a_file_that_is_left_aside_is_refused_as_such(tree: Tree) -> None:
    root = tree(dict.fromkeys([*FILES, "masks/m.tif"], b"1"))
    with pytest.raises(
        DataError, match=r"1 of 2 rows name no image that is read, such as 'm.tif': a file of that name"
    ):
        found(root, table(name=["a.png", "m.tif"], label=["x", "y"]), path_column="name")


def test_a_column_that_names_no_file_is_refused_with_both_sides(root: Path) -> None:
    with pytest.raises(DataError, match=r"column 'name' holds 'q.png', and the data hold 'sick/a.png': give --path-"):
        found(root, table(name=["q.png"], label=["x"]), path_column="name")


def test_excluded_rows_are_parted_from_the_others_and_a_blank_can_be_excluded(caplog: pytest.LogCaptureFixture) -> None:
    rows = pd.DataFrame({FILE: FILES, "device": ["CT", None, "DX"]}).astype("str")
    kept, aside = without_excluded(rows, Labelling(labels=("t",), exclude=("device=CT", "device=")))
    assert (kept[FILE].tolist(), list(aside)) == (["well/c.png"], FILES[:2])
    assert not caplog.records
    kept, aside = without_excluded(rows, Labelling(labels=("t",), exclude=("device=MR",)))
    assert (len(kept), list(aside)) == (3, [])
    assert "--exclude device=MR fits no row" in caplog.text


def test_views_are_compared_in_any_letter_case(root: Path) -> None:
    rows = pd.DataFrame({FILE: FILES, "seen": ["pa", "LL", None]}).astype("str")
    source = open_source(str(root))
    labelling = Labelling(labels=("t",), view_column="seen", view_positions=("PA",))
    kept, aside = of_views(rows, labelling, source)
    assert (kept[FILE].tolist(), kept[VIEW].tolist(), list(aside)) == (FILES[:1], ["pa"], FILES[1:])
    kept, aside = of_views(rows, Labelling(labels=("t",)), source)
    assert (kept[VIEW].isna().all(), len(kept), list(aside)) == (True, 3, [])
    with pytest.raises(ConfigError, match="--view-positions AP fits no image; there are 'pa', 'LL'"):
        of_views(rows, Labelling(labels=("t",), view_column="seen", view_positions=("AP",)), source)


def test_a_tag_is_read_from_dicom_alone_and_damage_is_no_value(tree: Tree) -> None:
    whole = make_dicom(ViewPosition=" PA ")
    files = {"whole.dcm": whole, "none.dcm": make_dicom(), "cut.dcm": whole[:140], "a.png": b"1"}
    source = open_source(str(tree(files)))
    values = {file: read_tag(source, file, "ViewPosition") for file in [*files, "gone.dcm"]}
    assert values == {"whole.dcm": "PA", "none.dcm": None, "cut.dcm": None, "a.png": None, "gone.dcm": None}
