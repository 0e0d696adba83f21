"""The HTML reports as a browser shows them: narrow, wide and on paper, light and dark."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from cxr.report.run.report import write_report
from cxr.storage.files import read_table
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run, load_run
from data_checks.gate import check_data
from data_checks.tolerances import Tolerances
from tests.support.legibility import CUT_OFF, FAINT, SPACED_PERCENT, UNNAMED
from tests.support.runs import Finished, small_config
from tests.support.shared import NewFolder
from tests.support.tables_of_others import appraised

CHROMIUM = shutil.which("chromium")
NARROW = {"width": 360, "height": 800}
WIDE = {"width": 1200, "height": 900}
PAPER = {"width": 703, "height": 1017}
"""A sheet of A4 without its margins, at 96 pixels an inch."""
PAGES = ("run", "checks", "scoring run", "appraisal", "appraised findings", "findings", "finding")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt install chromium")


@pytest.fixture(scope="module")
def pages(finished: Finished, several: Run, sample: Path, scored: Path, new_folder: NewFolder) -> dict[str, Path]:
    """The reports of a run, its data checks, a scoring run, appraisals, several findings, and one of these."""
    made = finished()
    folder = RunFolder(new_folder("pages") / "first")
    shutil.copytree(made.folder.path, folder.path)
    check_data(folder, small_config(sample), Tolerances())
    write_report(load_run(folder))
    (scoring_run,) = scored.glob("_scoring_runs/*/report.html")
    run_of_findings = RunFolder(new_folder("findings") / "several")
    shutil.copytree(several.folder.path, run_of_findings.path)
    write_report(load_run(run_of_findings))
    first = run_of_findings.report_of(1, several.outputs[0])
    table = read_table(folder.predictions)[["path", "label", "fold", *made.outputs.probability_columns]]
    appraisal = appraised(new_folder("appraised"), "table", table).report
    several_labels = read_table(run_of_findings.predictions)
    appraised_findings = appraised(new_folder("appraised"), "findings", several_labels, "--blank=mask").report
    reports = (folder.report, folder.checks_report, scoring_run, appraisal, appraised_findings)
    reports = (*reports, run_of_findings.report, first)
    return dict(zip(PAGES, reports, strict=True))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_report_is_legible_in_both_themes_fits_a_telephone_and_paper_and_asks_for_nothing(
    browser: Browser, pages: dict[str, Path], name: str, theme: str
) -> None:
    complaints: list[str] = []
    page = browser.new_page(viewport=NARROW, color_scheme=theme)  # pyright: ignore[reportArgumentType]
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url))
    page.goto(pages[name].as_uri())
    assert [complaint for complaint in complaints if not complaint.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], "the page scrolls sideways"
    assert page.evaluate(FAINT) == []
    assert page.evaluate(UNNAMED) == []
    assert re.findall(f".*{SPACED_PERCENT}", page.inner_text("body")) == []
    for size, medium in ((WIDE, "screen"), (PAPER, "print")):
        page.set_viewport_size(size)  # pyright: ignore[reportArgumentType]
        page.emulate_media(media=medium)  # pyright: ignore[reportArgumentType]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], medium
        assert page.evaluate(CUT_OFF) == [], medium
    assert page.evaluate(FAINT) == [], "the paper is white, whatever the theme"
    page.close()


def test_the_verdict_of_a_run_is_on_the_first_screen_and_colours_of_curves_follow_the_theme(
    browser: Browser, pages: dict[str, Path]
) -> None:
    colours = {}
    for theme in ("light", "dark"):
        page = browser.new_page(viewport=WIDE, color_scheme=theme)  # pyright: ignore[reportArgumentType]
        page.goto(pages["run"].as_uri())
        box = page.locator(".verdict").first.bounding_box()
        assert box is not None
        assert box["y"] + 100 < WIDE["height"]
        curve = page.locator('#figure-roc path[style*="stroke: #0072b2"]').first
        colours[theme] = curve.evaluate("path => getComputedStyle(path).stroke")
        page.close()
    assert colours["light"] == "rgb(0, 114, 178)"
    assert colours["dark"] != colours["light"]
