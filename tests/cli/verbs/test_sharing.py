from pathlib import Path

import pytest

from cxr.cli.main import app
from cxr.errors import ConfigError, PackageError
from cxr.serving import registry
from cxr.storage.model_folder import ModelFolder, PackageFolder
from tests.support.packages import light_package


@pytest.fixture
def light(home: Path, tmp_path: Path) -> PackageFolder:
    """Version 1 of the model `tiny` in `models`, its champion."""
    made = light_package(ModelFolder.named(home / "models", "tiny").version("1"), tmp_path / "models")
    registry.promote(ModelFolder.named(tmp_path / "models", "tiny"), "1")
    return made


def test_the_champion_is_pushed_and_pulled_and_promoted_elsewhere(
    light: PackageFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    share, here = tmp_path / "share", tmp_path / "here"
    app(["package", "push", "tiny", str(share), f"--models={light.path.parents[1]}"])
    printed = capsys.readouterr()
    pull = f"package pull {share} --name tiny --version 1"
    assert printed.out.splitlines() == [
        f"pushed  tiny 1 in {share}",
        f"to take it up elsewhere: cxr {pull}",
    ]
    sizes = [path.stat().st_size for path in light.path.iterdir()]
    of = f"{sum(sizes) / 1e6:,.1f}"
    assert f"pushed SHA256SUMS: {of} of {of} MB" in printed.err
    app(["package", "push", "tiny/1", str(share), f"--models={light.path.parents[1]}"])
    assert capsys.readouterr().out.startswith(f"already there  tiny 1 in {share}\n")
    app([*pull.split(), f"--models={here}"])
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "version  1",
        f"package  {here / 'tiny' / '1'}",
        f"card     {here / 'tiny' / '1' / 'README.md'}",
        "to score with it: cxr promote tiny 1",
    ]
    app([*pull.split(), f"--models={here}"])
    assert "this is already version 1 of tiny" in capsys.readouterr().err
    assert registry.champion_version(ModelFolder.named(here, "tiny")) is None
    app(["promote", "tiny", "1", f"--models={here}"])
    assert "champion tiny 1: the first champion" in capsys.readouterr().out


def test_a_run_that_is_called_push_is_packaged_by_its_path(light: PackageFolder, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="has no version '9'; it has 1"):
        app(["package", "push", "tiny/9", str(tmp_path / "share"), f"--models={light.path.parents[1]}"])
    with pytest.raises(ConfigError, match="DESTINATION must be a folder, s3://"):
        app(["package", "push", "tiny", "gs://bucket", f"--models={light.path.parents[1]}"])
    from cxr.errors import RunError

    with pytest.raises(RunError, match="no run 'experiments/push'"):
        app(["package", "experiments/push", "--name=tiny"])
