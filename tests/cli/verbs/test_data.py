from pathlib import Path

import pytest

from cxr.cli.main import app
from cxr.descriptions import shipped
from cxr.errors import ConfigError


def test_sample_takes_the_old_name_of_its_option_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["sample", str(tmp_path / "images"), "--films", "40"])
    assert capsys.readouterr().out == f"40 synthetic images in {tmp_path / 'images'}\n"
    with pytest.raises(ConfigError, match="empty"):
        app(["sample", str(tmp_path / "images")])


def test_the_known_collections_are_listed_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    app(["sets"])
    printed = capsys.readouterr().out
    for description in shipped():
        assert f"{description.name:<12} {description.title}" in printed
    assert "--patient-column 'Patient ID'" in printed
    assert "--value 'Finding Labels:No Finding=absent'" in printed
