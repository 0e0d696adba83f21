"""The HTML reports as a browser shows them: narrow and wide, light and dark."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from cxr.report.run.report import write_report
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run
from data_checks.gate import check_data
from data_checks.tolerances import Tolerances
from tests.support.runs import Finished, small_config
from tests.support.shared import NewFolder

CHROMIUM = shutil.which("chromium")
NARROW = {"width": 360, "height": 800}
WIDE = {"width": 1200, "height": 900}
PAGES = ("run", "checks", "scoring run")
FAINT = """
() => {
    const parse = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour.length === 3 || colour[3] > 0.99) return colour;
        }
        return [255, 255, 255];
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const faint = [];
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.textContent.trim() || element.closest('svg')) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) faint.push(`${contrast.toFixed(2)}: ${texts.currentNode.textContent.trim().slice(0, 60)}`);
    }
    return faint;
}
"""
"""Texts whose contrast is below 4.5, by WCAG 2.1's relative luminance."""
UNNAMED = """
() => [...document.querySelectorAll('img, svg, [role=img]')]
    .filter(e => !e.getAttribute('alt') && !e.getAttribute('aria-label')
        && !(e.getAttribute('aria-labelledby') || '').split(' ').some(id => document.getElementById(id)?.textContent)
        && !e.closest('[aria-hidden=true]'))
    .map(e => e.outerHTML.slice(0, 100))
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt install chromium")


@pytest.fixture(scope="module")
def pages(finished: Finished, sample: Path, scored: Path, new_folder: NewFolder) -> dict[str, Path]:
    """The reports of a run, of its data checks, and of a scoring run."""
    made = finished()
    folder = RunFolder(new_folder("pages") / "first")
    shutil.copytree(made.folder.path, folder.path)
    check_data(folder, small_config(sample), Tolerances())
    write_report(load_run(folder))
    (scoring_run,) = scored.glob("_scoring_runs/*/report.html")
    return dict(zip(PAGES, (folder.report, folder.checks_report, scoring_run), strict=True))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_report_is_legible_in_both_themes_fits_a_telephone_and_asks_for_nothing(
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
    page.set_viewport_size(WIDE)
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDE["width"]
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
