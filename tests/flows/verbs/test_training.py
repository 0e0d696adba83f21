import os
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import BIN

CXR = str(BIN / "cxr")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--positive=COVID"], "error: --positive must name one of the classes 'NORMAL' and 'PNEUMONIA', got 'COVID'."),
        (["--holdout=nowhere"], "error: --holdout 'nowhere' names no split of the data"),
        (["--class-folder=nowhere"], "error: --class-folder 'nowhere' names no folder with images"),
        (["--weights=nowhere.pth", "--trainable=all"], "error: --weights 'nowhere.pth' is not a file"),
        (["--devices=cuda:99"], "error: device 'cuda:99' does not exist"),
        (["--redo-fold=9"], "error: --redo-fold must name a fold from 0 to 4, got 9."),
        (["--runner=workers"], "error: --runner workers needs a Prefect server that workers poll"),
        (["--tolerances=limits.toml"], "error: there is no tolerance 'no_such'"),
    ],
)
def test_what_can_be_known_at_once_is_said_before_a_server_starts(
    words: list[str], sentence: str, sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "limits.toml").write_text("no_such = 1\n")
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(tmp_path / "prefect")}
    command = [CXR, "train", f"--data={sample}", *words]
    if "--weights" not in words[0]:
        command.append("--weights=none")
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith(sentence)
    assert len(result.stderr.splitlines()) == 1, "neither a server nor a log line"
    assert not (tmp_path / "experiments").exists()
