from pathlib import Path

import pytest

from cxr.errors import ConfigError
from cxr.storage.model_folder import ModelFolder


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 81])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--name must be letters"):
        ModelFolder.named(tmp_path, name)


def test_a_bucket_is_refused() -> None:
    with pytest.raises(ConfigError, match="--models needs a folder of files, got 's3://bucket/models'"):
        ModelFolder.named(Path("s3://bucket/models"), "tiny")


def test_finished_versions_are_listed_by_number(tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path, "tiny")
    assert model.versions() == []
    for version in ("2", "10", "1", "draft"):
        model.version(version).path.mkdir(parents=True)
        model.version(version).checksums.touch()
    model.version("3").path.mkdir()  # without checksums: its making was killed
    assert model.versions() == ["1", "2", "10"]


def test_files_of_a_package_are_in_the_folder_of_its_version(tmp_path: Path) -> None:
    package = ModelFolder.named(tmp_path, "tiny").version("4")
    assert package.version == "4"
    assert package.fold_weights(2) == tmp_path / "tiny" / "4" / "fold-2.safetensors"
    assert package.int8_graph("trunk", 0) == tmp_path / "tiny" / "4" / "int8-trunk-0.onnx"
