import pandas as pd
import pytest

from cxr.dataset.listing.layout import LeftAside, left_aside_table
from data_checks import left_aside
from data_checks.tolerances import Tolerances
from tests.data_checks.conftest import Failed

MANIFEST = pd.DataFrame({"path": [f"train/A/{k}.png" for k in range(100)]})
COUNTED = {("aside", "info")}
CASES = {
    "nothing": ({}, set()),
    "a list beside the images": ({"other file": 1}, COUNTED),
    "a tenth of other files": ({"other file": 11}, COUNTED),
    "more than a tenth": ({"other file": 12}, COUNTED | {("unexplained", "warning")}),
    "three of ten files are hidden": ({"hidden folder": 43}, COUNTED | {("unexplained", "warning")}),
    "hidden files and lists together": ({"hidden file": 6, "other file": 6}, COUNTED | {("unexplained", "warning")}),
    "thumbnails and copies that nobody misses": (
        {"system folder": 300, "macOS copy": 100, "folder settings": 9, "nested copy": 100, "DICOM directory": 1},
        COUNTED,
    ),
    "which hide no others": (
        {"nested copy": 1000, "other file": 12},
        COUNTED | {("unexplained", "warning")},
    ),
    "one TIFF": ({"image in another format (.tif)": 1}, COUNTED | {("image", "warning")}),
    "masks beside the images": ({"mask or annotation": 100}, COUNTED | {("unexplained", "warning")}),
    "images that somebody left out": ({"image outside the class folders": 100}, COUNTED),
    "three of ten images are in other formats": (
        {"image in another format (.tif)": 20, "image in another format (.bmp)": 23},
        COUNTED | {("image", "warning"), ("image", "critical"), ("unexplained", "warning")},
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_files_left_aside_are_part_of_the_verdict(what: str, failed: Failed) -> None:
    counts, expected = CASES[what]
    aside = [LeftAside(f"{kind}/{k}", kind, 1) for kind, n in counts.items() for k in range(n)]
    rows = left_aside.describe(left_aside_table(aside), MANIFEST)
    assert failed(left_aside.TABLE, rows, left_aside.expectations(Tolerances())) == expected
