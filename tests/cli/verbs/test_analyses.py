import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from cxr.cli.main import app


@pytest.fixture
def experiments(home: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the finished run; its weights are hard links."""
    shutil.copytree(home / "experiments", tmp_path / "experiments", copy_function=os.link)
    return tmp_path / "experiments"


def test_stress_prints_a_line_per_change_and_writes_table_and_report(
    experiments: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app(["stress", "run", "--films", "8", "--device", "cpu", f"--experiments={experiments}"])
    printed = capsys.readouterr().out
    table = pd.read_parquet(experiments / "run" / "metrics" / "stress.parquet")
    changes = table[["change", "strength"]].drop_duplicates()
    lines = [line for line in printed.splitlines() if line.startswith("│")]
    assert len(lines) == len(changes)
    assert f"table    {experiments / 'run' / 'metrics' / 'stress.parquet'}" in printed
    assert (experiments / "run" / "report.html").exists()
