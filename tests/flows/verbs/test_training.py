import json
import os
import subprocess
from pathlib import Path

import pandas as pd
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


def test_a_quiet_validation_with_json_prints_the_document_alone(
    sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    places = [f"--experiments={tmp_path / 'experiments'}", f"--cache={tmp_path / 'cache'}"]
    command = [CXR, "validate", f"--data={sample}", "--folds=2", *places, "--json", "--quiet"]
    result = subprocess.run(command, env=server, capture_output=True, text=True, timeout=200, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["verdict"] == "passed"
    expectations = pd.read_parquet(Path(document["files"]["report"]).with_name("expectations.parquet"))
    assert [row["sentence"] for row in document["expectations"]] == expectations["sentence"].tolist()
    assert set(document["expectations"][0]) == set(expectations.columns)
