"""The page as people see it: a real server, Debian's Chromium, uploaded images."""

import io
import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from app.server import MAX_UPLOAD_MB
from cxr.classes import Classes
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.wording import DISCLAIMER
from tests.support.legibility import FAINT, UNNAMED
from tests.support.processes import BIN, wait_for
from tests.support.servers import is_healthy
from tests.support.shared import NewFolder

CHROMIUM = shutil.which("chromium")
ALONE = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000
VIEWS = ("Classify", "Runs", "Scoring runs", "Models")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt install chromium")


@dataclass(frozen=True)
class Served:
    """A server of the page: its process, its address, and the only folder where it could keep something unseen."""

    process: subprocess.Popen[str]
    address: str
    temporary: Path


def two_runs(home: Path, experiments: Path) -> Path:
    """A folder with the run of `home`, and the same under the name `earlier` and an earlier time."""
    for name in ("run", "earlier"):
        weights = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(home / "experiments" / "run", experiments / name, ignore=weights)
    earlier = RunFolder.named(experiments, "earlier").config
    verified.write_json(earlier, files.read_record(earlier) | {"begun_at": "2020-01-01T00:00:00+00:00"})
    return experiments


@pytest.fixture(scope="module")
def served(home: Path, scored: Path, new_folder: NewFolder) -> Iterator[Served]:
    """`cxr app` as people type it, on any free port; Ctrl-C ends it, and all its processes."""
    temporary = new_folder("temporary")
    folders = {
        "experiments": two_runs(home, new_folder("experiments")),
        "models": home / "models",
        "cache": home / "cache",
        "scores": scored,
    }
    options = [f"--{name}={path}" for name, path in folders.items()]
    process = subprocess.Popen(
        [str(BIN / "cxr"), "app", "--port=0", *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=temporary,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(temporary), "HOME": str(temporary)},
    )
    try:
        assert process.stdout is not None
        address = re.findall(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        wait_for(lambda: is_healthy(f"{address}/_stcore/health"), "the page", timeout_s=120)
        yield Served(process, address, temporary)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) in (0, -signal.SIGINT)
        assert not is_healthy(f"{address}/_stcore/health")
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def browser(new_folder: NewFolder) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ALONE)
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """A visitor's page, and what went wrong on it."""

    page: Page
    faults: list[str]

    def open(self, view: str) -> None:
        """Go to a view as a visitor does."""
        self.page.get_by_role("link", name=view).first.click()
        expect(self.page.get_by_role("heading", level=1)).to_contain_text(view)
        self.settle()

    def settle(self) -> None:
        """Wait until the server has nothing more to say."""
        expect(self.page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
        expect(self.page.get_by_test_id("stSpinner")).to_have_count(0)

    def upload(self, *files: tuple[str, bytes]) -> None:
        """Upload files."""
        payload = [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in files]
        self.page.locator("input[type=file]").set_input_files(payload)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def context(browser: Browser) -> BrowserContext:
    """What the visits of a module have in common: the browser reads and compiles Streamlit's scripts once."""
    return browser.new_context(accept_downloads=True)


@pytest.fixture
def visit(served: Served, context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A visitor who asks for nothing outside this machine and meets no error of the page."""
    yield from visiting(served, context, getattr(request, "param", (1280, 900)))


def visiting(served: Served, context: BrowserContext, size: tuple[int, int]) -> Iterator[Visit]:
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    visit = Visit(context.new_page(), [])
    visit.page.set_viewport_size({"width": size[0], "height": size[1]})
    visit.page.on("console", lambda m: visit.faults.append(m.text) if m.type == "error" else None)
    visit.page.on("pageerror", lambda error: visit.faults.append(str(error)))
    visit.page.on("dialog", lambda dialog: visit.faults.append(dialog.message))
    inside = (served.address, served.address.replace("http", "ws"), "data:", "blob:")
    visit.page.on("request", lambda r: None if r.url.startswith(inside) else visit.faults.append(r.url))
    visit.page.on("websocket", lambda w: None if w.url.startswith(inside) else visit.faults.append(w.url))
    visit.page.goto(served.address)
    expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
    visit.settle()
    yield visit
    faults = list(visit.faults)
    visit.page.close()
    assert faults == []


def scoring_run_row(scored: Path) -> tuple[bytes, pd.Series]:
    """An image of the inbox and its row in the scores."""
    rows = pd.concat([pd.read_parquet(part) for part in scored.glob("[!_]*/*.parquet")])
    row = rows[rows["status"] == "ok"].iloc[0]
    return (scored.parent / "inbox" / str(row["batch"]) / str(row["path"])).read_bytes(), row


def test_an_uploaded_image_has_the_scoring_runs_probability_and_a_map_that_is_not_blank(
    visit: Visit, scored: Path, served: Served
) -> None:
    data, row = scoring_run_row(scored)
    visit.upload(("image.jpeg", data))
    page = visit.page
    expect(page.get_by_role("heading", level=2)).to_have_text(str(row["predicted_label"]))
    expect(page.get_by_text(f"The probability of PNEUMONIA is {row['probability_PNEUMONIA']:.1%}")).to_be_visible()
    pictures = page.get_by_test_id("stImage").locator("img")
    expect(pictures).to_have_count(2)
    visit.settle()
    image, laid_over = (fetched(page, str(pictures.nth(k).get_attribute("src"))) for k in (0, 1))
    original = Image.open(io.BytesIO(data))
    assert image.shape == laid_over.shape
    assert image.shape[1] / image.shape[0] == pytest.approx(original.width / original.height, rel=0.02)
    assert np.ptp(image, axis=2).max() == 0, "the image is grey"
    assert np.ptp(laid_over, axis=2).max() > 20, "the map has colours"
    with page.expect_download() as download:
        page.get_by_role("button", name="Results (JSON)").click()
    downloaded = json.loads(download.value.path().read_text())["images"][0]
    with page.expect_download() as download:
        page.get_by_role("button", name="Picture (PNG)").click()
    beside = np.asarray(Image.open(download.value.path())).astype(int)
    assert np.abs(beside - np.hstack([image, laid_over])).mean() < 3, "the page shows the same as JPEG"
    for column in ("probability_NORMAL", "probability_PNEUMONIA", "fold_spread", "novelty"):
        assert downloaded[column] == pytest.approx(row[column], abs=1e-6)
    assert downloaded["image_id"] == row["image_id"]
    kept = [path for path in served.temporary.rglob("*") if path.is_file() and data in path.read_bytes()]
    assert kept == []


def fetched(page: Page, address: str) -> np.ndarray:
    """A picture of the page as the browser gets it, shape (height, width, 3)."""
    answer = page.request.get(page.url.rstrip("/") + address if address.startswith("/") else address)
    return np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB")).astype(int)


def test_a_file_that_is_no_image_gets_a_sentence_and_a_hostile_name_is_text(visit: Visit, scored: Path) -> None:
    name = "<img src=x onerror=alert(1)>![x](http://evil.example∕x.png).jpeg"
    visit.upload(("letter.jpeg", b"Dear colleague"), (name, scoring_run_row(scored)[0]))
    expect(visit.page.get_by_text("letter.jpeg: not an image: no JPEG")).to_be_visible()
    expect(visit.page.get_by_test_id("stCaptionContainer").get_by_text(name)).to_be_visible()
    assert visit.page.locator("img[src=x]").count() == 0


def test_a_file_that_is_too_large_is_refused(visit: Visit, tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate((MAX_UPLOAD_MB + 1) * 2**20)
    visit.page.locator("input[type=file]").set_input_files(tmp_path / "large.png")
    expect(visit.page.get_by_text(re.compile(f"{MAX_UPLOAD_MB}.*MB or smaller"))).to_be_visible()


def test_visitors_at_the_same_time_get_their_own_answers(
    visit: Visit, served: Served, browser: Browser, scored: Path
) -> None:
    others = visiting(served, browser.new_context(), (900, 800))
    other = next(others)
    data, row = scoring_run_row(scored)
    visit.upload(("mine.jpeg", data))
    other.page.get_by_text("one dense patch", exact=True).click()
    expect(visit.page.get_by_text("mine.jpeg", exact=True).last).to_be_visible()
    expect(visit.page.get_by_text(f"is {row['probability_PNEUMONIA']:.1%}")).to_be_visible()
    expect(other.page.get_by_text("synthetic: one dense patch")).to_be_visible()
    for visitor, foreign in ((visit, "synthetic: one dense patch"), (other, "mine.jpeg")):
        visitor.settle()
        expect(visitor.page.get_by_text("HiResCAM (layer3")).to_be_visible()
        expect(visitor.page.get_by_text(foreign)).to_have_count(0)
    assert next(others, None) is None


def test_a_run_is_shown_and_the_threshold_moves_its_matrix_by_keyboard(visit: Visit, home: Path) -> None:
    visit.open("Runs")
    folder = RunFolder.named(home / "experiments", "run")
    row = files.read_table(folder.summary).set_index("metric").loc["roc_auc"] * 100
    table = visit.page.get_by_test_id("stTable").first
    expect(table).to_contain_text(f"ROC-AUC{row['mean']:.1f} ± {row['sd']:.1f}")
    expect(table).to_contain_text(f"{row['pooled']:.1f} [{row['ci_low']:.1f}, {row['ci_high']:.1f}]")
    visit.page.get_by_text("Threshold", exact=True).click()
    slider = visit.page.get_by_role("slider")
    expect(slider).to_have_value("0.5")
    slider.focus()
    for _ in range(20):
        slider.press("ArrowLeft")
    expect(slider).to_have_value("0.4")
    run = OutOfFold(files.read_table(folder.predictions), Classes(files.read_record(folder.config)["classes"]))
    predicted = (run.calibrated[:, 1] >= 0.4).astype(int)
    (tp, fn), (fp, tn) = confusion_matrix(run.target, predicted, labels=[1, 0])
    matrix = visit.page.get_by_test_id("stTable").first.locator("tbody tr")
    expect(matrix).to_have_text([f"images of PNEUMONIA{tp}{fn}", f"images of NORMAL{fp}{tn}"])
    metrics = visit.page.get_by_test_id("stMetric")
    values = [recall_score(run.target, predicted, pos_label=k) for k in (1, 0)]
    values += [precision_score(run.target, predicted, pos_label=k, zero_division=np.nan) for k in (1, 0)]
    names = ("Sensitivity", "Specificity", "PPV", "NPV")
    for k, (name, value) in enumerate(zip(names, values, strict=True)):
        expect(metrics.nth(k)).to_contain_text(name)
        expect(metrics.nth(k)).to_contain_text("–" if np.isnan(value) else f"{100 * value:.1f}%")


def test_a_click_on_any_cell_of_a_row_opens_its_run(visit: Visit) -> None:
    visit.open("Runs")
    opened = visit.page.get_by_role("heading", level=2)
    expect(opened).to_have_text("run")
    table = visit.page.get_by_test_id("stDataFrame").first
    for row, name in ((2, "earlier"), (1, "run")):
        table.click(position={"x": 300, "y": 35 * row + 17})
        expect(opened).to_have_text(name)
        visit.settle()


@pytest.mark.parametrize("visit", [(1280, 900), (360, 800)], indirect=True, ids=["wide", "narrow"])
def test_every_view_fits_the_screen_is_legible_in_both_themes_and_carries_the_disclaimer(visit: Visit) -> None:
    page = visit.page
    for view in VIEWS:
        visit.open(view)
        banner = page.get_by_test_id("stAlert").get_by_text(DISCLAIMER, exact=True)  # a card says it, too
        expect(banner).to_be_visible()
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, view
        assert page.evaluate(UNNAMED) == [], view
        for theme in ("dark", "light"):
            page.emulate_media(color_scheme=theme)
            visit.settle()
            assert page.evaluate(FAINT) == [], (view, theme)


def test_the_address_of_a_view_leads_to_it_without_an_error_and_back_to_the_first(visit: Visit, served: Served) -> None:
    heading = visit.page.get_by_role("heading", level=1)
    for view in VIEWS[1:]:
        address = f"{served.address}/{view.lower().replace(' ', '_')}"
        visit.page.goto(address)
        expect(heading).to_have_text(view)
        visit.settle()
        assert visit.page.url == address
    visit.page.go_back()
    expect(heading).to_have_text(VIEWS[0])


def test_a_foreign_name_for_this_machine_is_not_answered(served: Served) -> None:
    port = int(served.address.rsplit(":", 1)[1])
    for host, status in (("127.0.0.1", b"101"), ("evil.example", b"403")):
        request = (
            f"GET /_stcore/stream HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        )
        request += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(request.encode())
            assert connection.recv(64).split()[1] == status


def test_a_taken_port_is_refused_in_one_sentence(served: Served, tmp_path: Path) -> None:
    port = served.address.rsplit(":", 1)[1]
    ended = subprocess.run(
        [str(BIN / "cxr"), "app", f"--port={port}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert f"error: port {port} cannot be used" in ended.stderr
