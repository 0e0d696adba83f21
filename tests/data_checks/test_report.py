import re
from pathlib import Path

import pandas as pd
import pytest

from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.storage.run_folder import RunFolder
from cxr.verdict import Finding, Verdict
from cxr.wording import DISCLAIMER
from data_checks.report import MAX_THUMBNAILS, write_report
from data_checks.tolerances import Tolerances
from tests.support.shared import NewFolder

LIMIT = Tolerances(min_side_px=123)


@pytest.fixture(scope="module")
def examined(sample: Path, new_folder: NewFolder) -> tuple[RunFolder, DataConfig]:
    place = new_folder("examined")
    config = DataConfig(data=str(sample), folds=2)
    examine(config, RunFolder(place / "run"), cache=place / "cache")
    return RunFolder(place / "run"), config


def page(examined: tuple[RunFolder, DataConfig], *findings: Finding) -> str:
    folder, config = examined
    worst = next((finding.severity for finding in findings if not finding.passed), None)
    write_report(folder, config, [Verdict("manifest", "one row per image found", worst, list(findings))], LIMIT)
    return folder.checks_report.read_text(encoding="utf-8")


def finding(severity: str, passed: bool, rows: list[dict[str, object]]) -> Finding:
    sentence = f"Something {severity} holds."
    return Finding("e", "c", severity, passed, sentence, 80, len(rows), rows)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("severity", "verdict"),
    [
        ("critical", "Stopped: 1 critical expectation failed."),
        ("warning", "Passed with 1 warning."),
        ("info", "Passed."),
    ],
)
def test_the_first_sentence_is_the_verdict(examined: tuple[RunFolder, DataConfig], severity: str, verdict: str) -> None:
    text = page(examined, finding(severity, False, [{"value": "x"}]))
    assert f"<b>{verdict}</b>" in text
    assert DISCLAIMER in text


def test_the_first_offending_images_are_shown_and_the_others_counted(
    examined: tuple[RunFolder, DataConfig], sample: Path
) -> None:
    paths = [path.relative_to(sample).as_posix() for path in sorted(sample.rglob("IM-*.jpeg"))][: MAX_THUMBNAILS + 2]
    assert len(paths) == MAX_THUMBNAILS + 2
    text = page(examined, finding("warning", False, [{"path": path, "value": 0.5} for path in paths]))
    assert text.count('<img src="data:image/jpeg;base64,') == MAX_THUMBNAILS
    assert "and 2 more" in text


def test_images_that_cannot_be_shown_are_named(examined: tuple[RunFolder, DataConfig]) -> None:
    text = page(examined, finding("critical", False, [{"path_a": "gone/1.png", "path_b": "gone/2.png"}]))
    assert "gone/1.png and gone/2.png" in text
    assert "data:image" not in text


def test_the_counts_are_those_of_the_tables(examined: tuple[RunFolder, DataConfig]) -> None:
    text = page(examined)
    manifest = pd.read_parquet(examined[0].manifest)
    used = manifest[manifest["status"] == "used"]
    for label, n in used["label"].value_counts().items():
        assert f'<td>{label}</td><td class="n">{n}</td><td class="n">{100 * n / len(used):.1f}%</td>' in text
    groups = pd.read_parquet(examined[0].folds)["group_id"].nunique()
    assert f"<b>{groups}</b> groups (patients)" in text
    assert r"first group of &#39;^(person\d+|" in text, "a pattern is shown as it is written"


def test_a_chart_has_axes_with_units_and_marks_the_limit(examined: tuple[RunFolder, DataConfig]) -> None:
    text = page(examined)
    assert ">Share of the class<" in text
    assert ">Contrast: standard deviation of grey levels<" in text
    varying = [name for name in ("width", "height") if pd.read_parquet(examined[0].manifest)[name].nunique() > 1]
    assert not re.search(r"\de\+\d", text), "no number is a power of ten"
    assert text.count(">smallest allowed: 123<") == len(varying) > 0
