from pathlib import Path

import pytest

from cxr.errors import ConfigError
from cxr.sharing.file_place import FilePlace
from cxr.sharing.hub import Hub
from cxr.sharing.place import open_place


def test_a_path_is_a_folder_and_hf_a_repository(tmp_path: Path) -> None:
    assert isinstance(open_place(str(tmp_path / "share"), "SOURCE"), FilePlace)
    assert isinstance(open_place("hf:folder", "SOURCE"), FilePlace)
    for address in ("hf://ward/chest", "hf://ward/chest@v2", "hf://ward/chest.x@refs/pr/1"):
        assert isinstance(open_place(address, "SOURCE"), Hub)


@pytest.mark.parametrize(
    "address",
    [
        *("hf://ward", "hf://ward/chest/tiny", "hf://ward/chest@", "hf:/ward/chest", "hf://../chest", "hf://a/b@../c"),
        *("s3://", "s3:///", "s3:/bucket", "gs://bucket/x", "https://huggingface.co/ward/chest", "file:///tmp"),
    ],
)
def test_what_looks_like_an_address_and_is_none_is_no_folder_of_that_name(address: str) -> None:
    with pytest.raises(
        ConfigError, match=r"SOURCE must be a folder, s3://bucket/folder or hf://owner/repository\[@rev"
    ):
        open_place(address, "SOURCE")


def test_a_file_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"DESTINATION '.*file' is a file: give a folder"):
        open_place(str(tmp_path / "file"), "DESTINATION")
