"""The page: seconds from opening it to the first result, and from uploading an image to its class and its pictures.

    python -m benchmarks.page --data originals.zip

The model is of the slowest kind: five folds, every layer trained (for one epoch, as its predictions do not matter
here). Debian's Chromium opens the page and renders it on the same cores; medians over the images after the first.
"""

import argparse
import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.results import keep
from cxr.dataset.listing.layout import list_images
from cxr.images.source import open_source
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from deployments.services import answers

CXR = str(Path(sys.executable).with_name("cxr"))
PATIENCE_MS = 120_000
SHOWS_CLASS = "() => document.querySelector('h2') !== null"
SHOWS_PICTURES = """() => {
    const pictures = [...document.querySelectorAll('[data-testid=stImage] img')];
    return pictures.length === 2 && pictures.every(picture => picture.complete);
}"""
SHOWS_NOTHING = "() => document.querySelector('h2') === null"
IS_QUIET = "() => document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"


def main() -> None:
    """Train, package, serve and visit; print the seconds, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=12)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        data = Path(arguments.data).resolve()
        config = ["--preset=quick", "--weights=none", "--epochs=1", f"--size={arguments.size}", "--run-id=run"]
        for words in (["train", f"--data={data}", *config], ["package", "run", "--name=page", "--promote"]):
            subprocess.run([CXR, *words], cwd=home, check=True, capture_output=True)
        facts = files.read_json(ModelFolder.named(home / "models", "page").version("1").description)
        figures = {
            "size, px": arguments.size,
            "bfloat16 moves a probability by at most": facts["bfloat16"]["largest_probability_difference"],
        }
        keep("page", figures | _visit(home, _images(str(data), arguments.images)))


def _images(data: str, n_images: int) -> list[tuple[str, bytes]]:
    source = open_source(data)
    chosen = list_images(source).images[:n_images]
    return [(f"image-{number}.jpeg", source.read(image.key)) for number, image in enumerate(chosen)]


def _visit(home: Path, images: list[tuple[str, bytes]]) -> dict[str, object]:
    with _served(home) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        start = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("input[type=file]", state="attached")
        opened = time.perf_counter() - start
        page.wait_for_function(IS_QUIET)
        seconds = [_drop_in(page, *image) for image in images]
        browser.close()
    classes, pictures = zip(*seconds[1:], strict=True)
    return {
        "opening the page and loading the model, s": round(opened, 2),
        "first image: class, s": round(seconds[0][0], 2),
        "first image: pictures, s": round(seconds[0][1], 2),
        "an image: class, s": round(statistics.median(classes), 2),
        "an image: pictures, s": round(statistics.median(pictures), 2),
        "slowest image: pictures, s": round(max(pictures), 2),
    }


def _drop_in(page: Page, name: str, data: bytes) -> tuple[float, float]:
    """Return the seconds until an image's class and both of its pictures are shown; then remove the image."""
    file = {"name": name, "mimeType": "image/jpeg", "buffer": data}
    start = time.perf_counter()
    page.locator("input[type=file]").set_input_files(file)  # pyright: ignore[reportArgumentType]
    page.wait_for_function(SHOWS_CLASS)
    named = time.perf_counter() - start
    page.wait_for_function(SHOWS_PICTURES)
    pictured = time.perf_counter() - start
    page.wait_for_function(IS_QUIET)
    page.get_by_role("button", name="Remove").first.click()
    page.wait_for_function(SHOWS_NOTHING)
    page.wait_for_function(IS_QUIET)
    return named, pictured


@contextlib.contextmanager
def _served(home: Path) -> Iterator[str]:
    process = subprocess.Popen([CXR, "app", "--port=0"], cwd=home, stdout=subprocess.PIPE, text=True)
    try:
        address = re.findall(r"http://127\.0\.0\.1:\d+", next(iter(process.stdout or ())))[0]
        while not answers(f"{address}/_stcore"):
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.communicate()


if __name__ == "__main__":
    main()
