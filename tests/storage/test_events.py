import json
import subprocess
import sys
from pathlib import Path

import pytest

from cxr.storage import events, files


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_stage_leaves_a_line_with_its_images_seconds_and_memory(tmp_path: Path) -> None:
    file = tmp_path / "run" / "events.jsonl"
    with events.stage(file, "train", fold=3, device="cpu") as stage:
        stage.n_images = 7
    (line,) = read(file)
    assert (line["stage"], line["fold"], line["device"], line["images"], line["outcome"]) == (
        "train",
        3,
        "cpu",
        7,
        "done",
    )
    assert line["time"].endswith("+00:00")
    assert line["images_per_s"] > 0 <= line["seconds"]
    assert 0.01 < line["peak_memory_gib"] < 64


def test_a_failed_stage_names_the_errors_type_and_not_its_message(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with pytest.raises(ValueError), events.stage(file, "train"):
        raise ValueError("password=hunter2")
    with pytest.raises(SystemExit), events.stage(file, "train"):
        sys.exit(143)
    assert [(line["outcome"], line["error"]) for line in read(file)] == [
        ("failed", "ValueError"),
        ("stopped", "SystemExit"),
    ]
    assert "hunter2" not in file.read_text()
    with pytest.raises(ValueError), events.stage(tmp_path / "nowhere" / "events.jsonl", "train"):
        raise ValueError
    assert not (tmp_path / "nowhere").exists()


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("cut off by a full disk")
    append = f"files.append_line(Path({str(file)!r}), '[' + 'x' * 3000 + ']')"
    code = f"from pathlib import Path; from cxr.storage import files\nfor _ in range(300): {append}"
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    lines = file.read_text().splitlines()
    assert lines[1:] == ["[" + "x" * 3000 + "]"] * 900
    files.append_line(file, "{}")
    assert file.read_text().endswith("]\n{}\n")
