"""Names that come from outside, planted in every place, and all that was written, printed and requested with them."""

import io
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from cxr.cli import model_results, run_results
from cxr.cli.app import app
from cxr.cli.terminal import log_lines
from cxr.config import Execution, ScoreConfig, TrainConfig
from cxr.dataset.examination import examine
from cxr.evaluation.tables import evaluate
from cxr.export.build import make_package
from cxr.pipeline import score_inbox
from cxr.report.run.report import write_report
from cxr.report.scoring_report import markdown
from cxr.serving import registry
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.beginning import begin_run
from cxr.training.trainer import train_fold
from data_checks.gate import check_data, check_scores
from data_checks.tolerances import Tolerances
from tests.app.test_app_browser import ALONE, CHROMIUM, VIEWS, Served, visiting
from tests.images.dicom.test_radiograph import with_text
from tests.support.images import make_dicom
from tests.support.processes import BIN, somebody_elses_packages, wait_for
from tests.support.servers import is_healthy
from tests.support.shared import NewFolder

FORGED = "12:00:00 FORGED"
PICTURE = "![x](http:&sol;&sol;evil.example&sol;x.png)"
CLASSES = (
    PICTURE,
    f"COVID-19 (+)\x1b[2J\n{FORGED}\u202e<img src=&sol;&sol;evil.example>[a](javascript:alert(1))$x^{{$|`",
)
FILE = f"<img src=x onerror=alert(1)>\x1b]0;x\x07\n{FORGED}\u202e<script>alert(1)<&sol;script>"
BATCH = f"ward\x1b[31m\n{FORGED}|`{PICTURE}<b>"
RUN = f"{PICTURE} <b>`"
FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
PATIENT = b"SECRET^PATIENT"


@dataclass(frozen=True)
class Planted:
    """A folder with a run, a package and scores full of foreign names, and what was printed meanwhile."""

    place: Path
    printed: str
    markdown: list[str]


def draw(generator: np.random.Generator, brightness: int) -> bytes:
    stream = io.BytesIO()
    levels = generator.normal(brightness, 40, (48, 48)).clip(0, 255).astype(np.uint8)
    Image.fromarray(levels).resize((96, 96)).save(stream, "JPEG")
    return stream.getvalue()


def swallowing() -> bytes:
    """A DICOM file whose modality has swallowed the next tag, a description with a patient's name in it."""
    data = make_dicom(StudyDescription=PATIENT.decode())
    at = data.index(b"\x08\x00\x60\x00CS") + 6
    return data[:at] + b"\x18" + data[at + 1 :]


def nameless() -> bytes:
    """A DICOM file with a patient's name where its photometric interpretation should be."""
    return with_text(make_dicom(), "PhotometricInterpretation", PATIENT)


def draw_archive(archive: Path) -> None:
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(archive, "w") as members:
        for number in range(24):
            label = CLASSES[number % 2]
            members.writestr(f"{label}/{number}-{FILE}.jpeg", draw(generator, 90 + 60 * (number % 2)))
        for name, data in (("modality", swallowing()), ("photometric", nameless())):
            members.writestr(f"{CLASSES[0]}/{name}-{FILE}.dcm", data)
        members.writestr(f"{CLASSES[0]}/broken-{FILE}.jpeg", b"no image")


def draw_inbox(inbox: Path) -> None:
    generator = np.random.default_rng(1)
    batch = inbox / BATCH
    batch.mkdir(parents=True)
    for number in range(3):
        (batch / f"{number}-{FILE.replace('/', '')}.jpeg").write_bytes(draw(generator, 120))
    (batch / "modality.dcm").write_bytes(swallowing())
    (batch / "photometric.dcm").write_bytes(nameless())
    (batch / os.fsdecode(b"undecodable-\xff.jpeg")).write_bytes(b"no image")


@pytest.fixture(scope="module")
def planted(new_folder: NewFolder) -> Planted:
    place = new_folder("planted")
    streams = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", streams)
        patch.setattr("sys.stderr", streams)
        with log_lines():
            texts = work(place)
    return Planted(place, streams.getvalue(), texts)


def work(place: Path) -> list[str]:
    """Train, check, package, score and list, as the verbs do; return what Prefect's artifacts would show."""
    draw_archive(place / "data.zip")
    draw_inbox(place / "inbox")
    small = {"preset": "quick", "weights": "none", "size": 32, "folds": 2, "epochs": 1, "batch_size": 8}
    config = TrainConfig(data=str(place / "data.zip"), positive=CLASSES[1], **small)
    folder = RunFolder.named(place / "experiments", "run")
    examine(config, folder, cache=place / "cache", size=config.size)
    check_data(folder, config, Tolerances())
    run = begin_run(config, folder, Execution(cache=place / "cache", devices="cpu"))
    for fold in range(config.folds):
        train_fold(run, fold, "cpu")
    evaluate(run)
    write_report(run)
    model = ModelFolder.named(place / "models", "tiny")
    registry.promote(model, make_package(run, model).version)
    shutil.copytree(folder.path, folder.path.with_name(RUN))
    scoring = ScoreConfig(
        name="tiny",
        out=place / "scores",
        models=place / "models",
        cache=place / "cache",
        settle=0,
        device="cpu",
        precision="fp32",
        compile="off",
        force=True,
    )
    scoring_run, outcomes = score_inbox(place / "inbox", scoring, partial(check_scores, limit=Tolerances()))
    run_results.show_results(folder)
    run_results.show_checks(folder)
    model_results.show_scoring_run(scoring_run.folder)
    app(["runs", "--experiments", str(place / "experiments")])
    app(["models", "--models", str(place / "models")])
    app(["compare", "run", RUN, "--experiments", str(place / "experiments"), "--out", str(place / "compared")])
    pictures = sorted((place / "inbox" / BATCH).iterdir())[:2]
    app(["explain", *map(str, pictures), "--name=tiny", f"--models={place / 'models'}", f"--out={place / 'explained'}"])
    return [markdown(scoring_run, outcomes), model.version("1").card.read_text()]


def written(planted: Planted, *suffixes: str) -> list[Path]:
    found = [path for path in planted.place.rglob("*") if path.is_file() and path.suffix in suffixes]
    assert found
    return found


def test_no_patients_name_is_in_any_file_or_line(planted: Planted) -> None:
    own = {planted.place / "data.zip", *(planted.place / "inbox").rglob("*")}
    files = [path for path in planted.place.rglob("*") if path.is_file() and path not in own]
    assert len(files) > 40
    assert [path for path in files if b"SECRET" in path.read_bytes()] == []
    assert "SECRET" not in planted.printed


def test_no_name_writes_a_line_or_moves_the_cursor(planted: Planted) -> None:
    assert FORGED in planted.printed
    assert "\\u202e" in planted.printed
    assert not FORBIDDEN.search(planted.printed)
    assert [line for line in planted.printed.splitlines() if line.startswith(FORGED)] == []


class Tags(HTMLParser):
    """A page's tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_page_runs_no_script_and_asks_for_nothing(planted: Planted) -> None:
    for file in written(planted, ".html", ".svg"):
        text = file.read_text()
        assert not FORBIDDEN.search(text), file
        for tag, attributes in Tags(text).found:
            assert tag not in ("script", "iframe", "object", "base", "form"), file
            assert not [name for name in attributes if name.startswith("on")], file
            for name in ("src", "href", "xlink:href"):
                assert re.match(r"data:image/|#", attributes.get(name) or "#"), (file, tag, attributes)


def test_a_card_and_an_artifact_hold_neither_links_nor_pictures_nor_html(planted: Planted) -> None:
    assert len(planted.markdown) == 2
    for text in planted.markdown:
        assert not FORBIDDEN.search(text.replace("\n", ""))
        tokens = MarkdownIt().enable("table").parse(text)
        kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}
        assert not kinds & {"image", "link_open", "html_inline", "html_block"}
        assert re.search(r"COVID\\-19|ward", text)


def test_the_tables_keep_the_names_as_they_are(planted: Planted) -> None:
    run = RunFolder(planted.place / "experiments" / "run")
    manifest = pd.read_parquet(run.manifest)
    assert set(manifest["label"]) == set(CLASSES)
    assert manifest["mode"].dropna().isin(["L"]).all()


@pytest.fixture
def served(planted: Planted, tmp_path: Path) -> Iterator[Served]:
    folders = [f"--{name}={planted.place / name}" for name in ("experiments", "models", "scores", "cache")]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": somebody_elses_packages(tmp_path)}
    with subprocess.Popen(
        [str(BIN / "cxr"), "app", "--port=0", *folders],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as process:
        assert process.stdout is not None
        address = re.findall(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        try:
            wait_for(lambda: is_healthy(f"{address}/_stcore/health"), "the page", timeout_s=120)
            yield Served(process, address, tmp_path)
        finally:
            process.kill()


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ALONE)
        yield chromium
        chromium.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt install chromium")
def test_no_view_of_the_page_asks_for_anything_outside(served: Served, browser: Browser, planted: Planted) -> None:
    visits = visiting(served, browser.new_context(), (1280, 900))
    visit = next(visits)
    page = visit.page
    visit.upload((f"{FILE}{PICTURE}.jpeg", draw(np.random.default_rng(2), 120)))
    expect(page.get_by_text("HiResCAM (layer3")).to_be_visible()
    visit.settle()
    for view in VIEWS[1:]:
        visit.open(view)
    visit.open("Runs")
    for section in ("Threshold", "Curves", "Folds and subgroups", "Label suspects", "Training", "Compare"):
        page.get_by_text(section, exact=True).first.click()
        visit.settle()
        assert page.locator("[data-testid=stException]").count() == 0
    for report in written(planted, ".html"):
        page.goto(report.as_uri())
        assert page.evaluate("document.images.length") == page.evaluate(
            "[...document.images].filter(image => image.src.startsWith('data:')).length"
        )
    assert not [fault for fault in visit.faults if not fault.startswith("file:")]
    visit.faults.clear()
    assert next(visits, None) is None
