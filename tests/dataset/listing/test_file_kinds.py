from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.dataset.listing.file_kinds import kind_of
from cxr.images.source import open_source
from tests.support.images import make_dicom
from tests.support.miniatures import draw

Tree = Callable[[dict[str, bytes]], Path]
PNG, DICOM, TIFF, WEBP = draw(0), make_dicom(), draw(1, "TIFF"), draw(2, "WEBP")
KINDS = {
    "A/1.png": (b"no image", None),
    "A/1.tif": (PNG, None),
    "A/2.TIFF": (TIFF, "image in another format (.tiff)"),
    "A/1.bmp": (draw(3, "BMP"), "image in another format (.bmp)"),
    "A/1.webp": (WEBP, "image in another format (.webp)"),
    "A/2.webp": (draw(4, "JPEG"), None),
    "A/1.nii.gz": (b"\x1f\x8b", "image in another format (.nii.gz)"),
    "A/1": (PNG, None),
    "A/2": (DICOM, None),
    "A/3": (TIFF, "image in another format (no suffix)"),
    "A/4": (WEBP, "image in another format (no suffix)"),
    "A/README": (b"notes", "other file"),
    "A/1.ima": (DICOM, None),
    "A/1.dcm.bak": (DICOM[128:], "other file"),
    "A/1.jpeg.part": (draw(5, "JPEG"), "other file"),
    "A/notes.txt": (b"", "other file"),
    "A/masks/1.png": (PNG, "mask or annotation"),
    "ManualMask/leftMask/1.png": (PNG, "mask or annotation"),
    "Annotations/1": (DICOM, "mask or annotation"),
    "no_mask/1.png": (PNG, None),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_told_by_its_name_and_where_that_leaves_it_open_by_its_content(tree: Tree, name: str) -> None:
    data, kind = KINDS[name]
    assert kind_of(name, open_source(str(tree({name: data})))) == kind


def test_a_file_that_cannot_be_looked_into_is_no_image(tree: Tree) -> None:
    root = tree({"A/1.png": PNG})
    (root / "A" / "gone").symlink_to("nowhere")
    assert kind_of("A/gone", open_source(str(root))) == "other file"
