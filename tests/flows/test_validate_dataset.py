"""`cxr validate` as a user types it, with a real Prefect server."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd

from deployments import services, status
from tests.support.collections import nih
from tests.support.processes import BIN
from tests.support.runs import train_command


def validate(data: Path, folder: Path, server: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    places = [f"--experiments={folder / 'experiments'}", f"--cache={folder / 'cache'}", "--run-id=look"]
    command = [BIN / "cxr", "validate", f"--data={data}", *places, *words]
    return subprocess.run(command, env=server, capture_output=True, text=True, timeout=200, check=False)


def test_a_fit_data_set_ends_with_code_0_and_one_that_is_not_with_code_1(
    sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    images = Path(shutil.copytree(sample, tmp_path / "images"))
    result = validate(images, tmp_path, server)
    assert result.returncode == 0, result.stderr
    report = tmp_path / "experiments" / "look" / "checks" / "report.html"
    for words in (
        "80 found → 1 unreadable → 3 duplicate → 76 used",
        "3 byte-identical groups",
        "verdict  passed",
        "acquisition alone",
        f"report   {report}",
    ):
        assert words in result.stdout
    shutil.copyfile(next(images.glob("train/NORMAL/IM-*")), images / "train" / "PNEUMONIA" / "person700_virus_1.jpeg")
    result = validate(images, tmp_path, server)
    assert result.returncode == 1
    assert "verdict  stopped" in result.stdout
    assert "critical, manifest: Identical bytes have one label" in result.stdout
    assert "train/PNEUMONIA/person700_virus_1.jpeg" in result.stdout
    assert "Traceback" not in result.stderr
    found = pd.read_parquet(report.with_name("expectations.parquet")).query("not passed and severity == 'critical'")
    assert found["column"].tolist() == ["labels_of_these_bytes"]
    with services.talking_to_server(server):
        run = status._ask_server()["runs"][0]
    assert (run.flow, run.state) == ("validate-dataset", "Failed")
    assert run.failure.startswith("the checks stop here: manifest: Identical bytes have one label")


def test_a_quiet_validation_with_json_prints_the_document_alone(
    sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    result = validate(sample, tmp_path, server, "--folds=2", "--json", "--quiet")
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["verdict"] == "passed"
    expectations = pd.read_parquet(Path(document["files"]["report"]).with_name("expectations.parquet"))
    assert [row["sentence"] for row in document["expectations"]] == expectations["sentence"].tolist()
    assert set(document["expectations"][0]) == set(expectations.columns)


def test_a_misspelt_tolerance_ends_with_code_2(sample: Path, server: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text("readable = 1\n")
    result = validate(sample, tmp_path, server, f"--tolerances={tmp_path / 'limits.toml'}")
    assert result.returncode == 2
    assert "error: there is no tolerance 'readable'; the tolerances are" in result.stderr
    assert not (tmp_path / "experiments" / "look" / "checks").exists()


def test_a_collection_with_its_labels_in_a_table_is_checked_as_it_comes(server: dict[str, str], tmp_path: Path) -> None:
    data = nih(tmp_path / "nih")
    result = validate(data, tmp_path, server, "--describe=nih", "--positive=Pneumonia", "--folds=2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "24 found → 0 unreadable → 0 duplicate → 24 used" in result.stdout
    assert "left aside 1 × table of labels: 'Data_Entry_2017.csv'" in result.stdout


def test_a_training_that_the_checks_stop_ends_with_one_sentence_and_code_2(
    sample: Path, server: dict[str, str], tmp_path: Path
) -> None:
    command = [word.replace("--folds=2", "--folds=20") for word in train_command(sample, tmp_path)]
    result = subprocess.run(command, env=server, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2
    assert "error: the checks stop here: manifest: Every class has at least 20 patients" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "experiments" / "run" / "config.json").exists()
    assert (tmp_path / "experiments" / "run" / "checks" / "report.html").exists()
