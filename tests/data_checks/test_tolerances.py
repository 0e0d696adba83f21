from pathlib import Path

import pytest

from cxr.errors import ConfigError
from data_checks.tolerances import Tolerances


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("readable_shore = 0.9", "there is no tolerance 'readable_shore'; the tolerances are readable_share"),
        ("readable_share = 2", "tolerance readable_share must be a share from 0 to 1, got 2"),
        ('readable_share = "all"', "tolerance readable_share must be a number, 0 or more, got 'all'"),
        ("readable_share", "cannot be read as TOML"),
    ],
)
def test_a_tolerance_that_makes_no_sense_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        Tolerances.of(tmp_path / "limits.toml")


def test_tolerances_come_from_a_file_or_a_form(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text("class_share = 0.02\n")
    assert Tolerances.of(tmp_path / "limits.toml") == Tolerances.of({"class_share": 0.02}) != Tolerances.of(None)
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        Tolerances.of(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match=r"--tolerances needs a folder of files, got 's3://bucket/limits\.toml'"):
        Tolerances.of(Path("s3://bucket/limits.toml"))
