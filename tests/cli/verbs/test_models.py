import os
import shutil
from pathlib import Path

import pytest

from cxr.cli.main import app
from cxr.errors import PackageError
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder


def test_models_are_listed_with_their_champion(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["models", f"--models={home / 'models'}"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "tiny" in line]
    assert line.replace("│", " ").split()[:4] == ["tiny", "1", "yes", "run"]


def test_promoting_the_champion_again_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["promote", "tiny", "1", f"--models={home / 'models'}"])
    assert "already champion" in capsys.readouterr().out


def test_a_model_is_recalibrated_promoted_and_rolled_back(
    home: Path, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home / "models", tmp_path / "models", copy_function=os.link)
    shutil.copytree(elsewhere, tmp_path / "site")
    images = sorted((tmp_path / "site").rglob("*.jpeg"))
    rows = "".join(f"{path.relative_to(tmp_path / 'site')},{path.parent.name}\n" for path in images)
    (tmp_path / "labels.csv").write_text("path,label\n" + rows)
    places = [f"--models={tmp_path / 'models'}", f"--cache={tmp_path / 'cache'}"]
    words = ["--version=1", "--operating-point=balanced", "--device=cpu", "--promote", *places]
    app(["recalibrate", "tiny", f"--labels={tmp_path / 'labels.csv'}", f"--images={tmp_path / 'site'}", *words])
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    facts = files.read_json(ModelFolder.named(tmp_path / "models", "tiny").version("2").description)
    origin = facts["thresholds_from"]
    row = {row["operating_point"]: row for row in origin["operating_points"]}["balanced"]
    shown = f"balanced (used) {row['threshold']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
    shown += f" {100 * row['sensitivity_before']:.1f} {100 * row['sensitivity']:.1f}"
    assert any(line.startswith(shown) for line in lines), lines
    assert "version 2" in lines
    n_images = origin["n_images"]
    fitted = (
        f"fitted to {sum(n_images.values())} images ({n_images['NORMAL']} NORMAL, {n_images['PNEUMONIA']} PNEUMONIA)"
    )
    assert fitted in lines
    assert not any("cxr promote" in line for line in lines), "it is champion"
    app(["rollback", "tiny", f"--models={tmp_path / 'models'}"])
    assert capsys.readouterr().out == "champion tiny 1\n"


def test_mistakes_are_errors_of_the_users(home: Path, tmp_path: Path) -> None:
    models = f"--models={home / 'models'}"
    with pytest.raises(PackageError, match="no champion before"):
        app(["rollback", "tiny", models])
    with pytest.raises(PackageError, match="has no version '9'"):
        app(["promote", "tiny", "9", models])
    (tmp_path / "labels.csv").touch()
    with pytest.raises(PackageError, match="has no version '9'; it has 1"):
        app(["recalibrate", "tiny", "--version=9", f"--labels={tmp_path / 'labels.csv'}", models])
    (tmp_path / "mine" / "_work").mkdir(parents=True)
    with pytest.raises(PackageError, match=r"no model 'tiny' in .*; models there: none\.$"):
        app(["promote", "tiny", "1", f"--models={tmp_path / 'mine'}"])
