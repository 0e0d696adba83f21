from pathlib import Path

import pytest

from cxr.errors import ConfigError, RunError
from cxr.storage.appraisal_folder import RECORD, AppraisalFolder, default_name, way_out


def appraised(place: Path, name: str = "first") -> AppraisalFolder:
    folder = AppraisalFolder.named(place, name)
    folder.predictions.parent.mkdir(parents=True)
    folder.record.touch()
    return folder


def test_an_appraisal_is_found_by_its_name_and_by_the_path_of_its_folder(tmp_path: Path) -> None:
    folder = appraised(tmp_path / "appraisals")
    for name, appraisals in (("first", folder.path.parent), (str(folder.path), tmp_path / "elsewhere")):
        found = AppraisalFolder.found(name, appraisals)
        assert found is not None
        assert (found.path, found.name) == (folder.path.resolve(), "first")


def test_a_folder_without_a_record_is_no_appraisal(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    assert AppraisalFolder.found("first", tmp_path) is None
    assert AppraisalFolder.found("nowhere", tmp_path) is None


def test_a_table_that_nobody_has_appraised_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "table.csv").touch()
    with pytest.raises(RunError, match=r"table.csv' is a file: type `cxr appraise` with it"):
        AppraisalFolder.found(str(tmp_path / "table.csv"), tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", ".hidden"])
def test_a_name_that_is_no_plain_one_is_refused_by_its_option(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--name"):
        AppraisalFolder.named(tmp_path, name)


def test_a_bucket_is_refused_by_its_option() -> None:
    with pytest.raises(ConfigError, match="--appraisals"):
        AppraisalFolder.named(Path("s3://bucket/appraisals"), "first")


def test_every_file_of_an_appraisal_is_made_again_by_the_same_command_and_no_other_is(tmp_path: Path) -> None:
    folder = appraised(tmp_path)
    for path in (folder.record, folder.report, folder.predictions, folder.figures / "roc.parquet"):
        assert way_out(path) == "delete the folder of the appraisal and type its `cxr appraise` again"
    assert way_out(tmp_path / "gone" / RECORD) is not None, "the record itself may be what is missing"
    assert way_out(tmp_path / "experiments" / "run" / "metrics" / "metrics.parquet") is None


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("test predictions.csv.gz", "test-predictions"),
        ("fold0.v2.parquet", "fold0.v2"),
        ("Röntgen/größe.csv", "gr-e"),
        (".csv", "predictions"),
        ("…", "predictions"),
        ("x" * 200 + ".csv", "x" * 80),
    ],
)
def test_an_appraisal_is_called_after_its_file(file: str, name: str, tmp_path: Path) -> None:
    assert default_name(Path(file)) == name
    assert AppraisalFolder.named(tmp_path, default_name(Path(file))).name == name
