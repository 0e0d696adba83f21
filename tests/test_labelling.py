"""Options about tables of labels: what is refused before a table is read."""

from pathlib import Path

import pytest

from cxr.config import DataConfig, TrainConfig
from cxr.errors import ConfigError
from cxr.labelling import LABELLING, Labelling, LabelTables


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"uncertain": "maybe"}, "--uncertain must be one of mask, positive, negative, got 'maybe'"),
        ({"blank": "positive"}, "--blank must be one of negative, mask"),
        ({"rows": "first"}, "--rows must be one of any, majority, unanimous"),
        ({"missing_films": "maybe"}, "--missing-films must be one of refuse, allow"),
        (
            {"label_column": "a", "label_columns": ("b",)},
            "--label-column and --label-columns both say where labels are",
        ),
        ({"separator": "|"}, "--separator is for --label-column"),
        ({"exclude": ("CT",)}, "--exclude must look like modality=CT, got 'CT'"),
        ({"split_list": ("test.txt",)}, "--split-list must look like test=test_list.txt"),
        ({"value": ("Target=1",)}, "--value must look like Target:1=PNEUMONIA"),
        ({"label_pattern": "("}, r"--label-pattern '\(' is not a regular expression"),
        ({"split_pattern": "train"}, "--split-pattern needs a group"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Labelling(labels=("t.csv",), **options)


@pytest.mark.parametrize("name", sorted(set(LABELLING) - {"labels", "label_pattern"}))
def test_without_a_table_no_option_about_tables_is_ignored(name: str) -> None:
    values = {
        "value": ("a:b=c",),
        "exclude": ("a=b",),
        "split_list": ("test=x",),
        "split_pattern": "(a)",
        "uncertain": "mask",
        "blank": "mask",
        "rows": "any",
        "missing_films": "allow",
    }
    value = values.get(name, ("a",) if isinstance(LABELLING[name], tuple) else "a")
    more = {"label_column": "a"} if name == "separator" else {}
    with pytest.raises(ConfigError, match="is about tables of labels: give --labels FILE, or leave it out"):
        Labelling(**{name: value}, **more)


def test_lists_may_be_separated_by_commas() -> None:
    options = Labelling(labels=("t.csv",), view_positions=("PA,AP", "AP Supine"), label_columns=("A, B",))
    assert options.view_positions == ("PA", "AP", "AP Supine")
    assert options.label_columns == ("A", "B")


def test_a_description_gives_what_is_not_given(tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text(
        'title = "Ours"\nlabels = ["a.csv"]\nlabel_column = "Target"\nblank = "mask"\npositive = "sick"\n'
        'patient_pattern = \'(p[0-9]+)\'\n[values.Target]\n1 = "sick"\n0 = "well"\n'
    )
    config = DataConfig(data="x", describe=str(tmp_path / "set.toml"), blank="negative")
    assert (config.labels, config.label_column, config.blank) == (("a.csv",), "Target", "negative")
    assert (config.positive, config.patient_pattern) == ("sick", "(p[0-9]+)")
    assert config.meanings == {("Target", "1"): "sick", ("Target", "0"): "well"}
    (tmp_path / "set.toml").unlink()
    assert DataConfig.from_dict(config.as_dict()) == config, "the description is not read again"
    other = Labelling(describe="rsna", label_column="class", labels=("stage_2_detailed_class_info.csv",))
    assert (other.label_column, other.path_column) == ("class", "patientId")


def test_where_labels_alone_are_asked_for_a_description_says_nothing_of_splits(tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text(
        'labels = ["a.csv"]\nlabel_column = "Target"\nsplit_column = "fold"\nweight_column = "w"\n'
    )
    tables = LabelTables(describe=str(tmp_path / "set.toml"))
    assert tables.alone() == Labelling(labels=("a.csv",), label_column="Target")
    assert Labelling(describe=str(tmp_path / "set.toml")).split_column == "fold"
    with pytest.raises(TypeError, match="weight_column"):
        LabelTables(labels=("a.csv",), weight_column="w")  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("labels = [", "cannot be read as TOML"),
        ("labels = ['a']\nfolds = 3", "sets 'folds', which is no option of a description"),
        ("values = 3", r"\[values\] needs a table for each column"),
    ],
)
def test_what_is_no_description_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        Labelling(describe=str(tmp_path / "set.toml"))
    with pytest.raises(
        ConfigError, match=r"--describe must be a TOML file or one of chexpert, cohen, .*, got 'nowhere'"
    ):
        Labelling(describe="nowhere")


def test_a_run_from_folders_keeps_its_identity_and_one_from_tables_writes_its_options_down() -> None:
    plain = TrainConfig(data="images")
    assert not set(LABELLING) & set(plain.as_dict())
    config = TrainConfig(data="images", labels=("t.csv",), label_columns=("Pneumonia",), uncertain="mask")
    assert config.positive == "Pneumonia", "the only finding is the positive class"
    written = config.as_dict()
    assert (written["labels"], written["uncertain"]) == (["t.csv"], "mask")
    assert "blank" not in written
    assert TrainConfig.from_dict(written) == config
    assert config.default_run_id != TrainConfig(data="images", labels=("t.csv",)).default_run_id


def test_labels_are_in_tables_or_in_subtypes() -> None:
    with pytest.raises(ConfigError, match="--label-from subtype is for labels in folders"):
        DataConfig(data="x", labels=("t.csv",), label_from="subtype")
