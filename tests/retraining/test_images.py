import hashlib
import os
from pathlib import Path

import pytest

from cxr.classes import Classes
from cxr.errors import DataError
from cxr.images.image_table import ImageTable
from cxr.images.source import open_source
from cxr.retraining.images import images_of_run, labelled_since
from cxr.storage import verified
from cxr.training.run import Run
from tests.support.retraining import Site

CLASSES = Classes(("NORMAL", "PNEUMONIA"))


def test_the_images_of_a_run_are_found_again_with_their_bytes_and_labels(head: Run) -> None:
    images = images_of_run(head)
    source = ImageTable(images, open_source)
    manifest = verified.read_table(head.folder.manifest).set_index("image_id")["label"].to_dict()
    assert len(images) == 79, "of 80 one cannot be read"
    for path, image_id, label in images[["path", "image_id", "label"]].itertuples(index=False):
        assert hashlib.sha256(source.read(path)).hexdigest() == image_id
        assert manifest[image_id] == label


def test_images_that_are_gone_or_other_files_by_now_are_left_out(site: Site, tmp_path: Path) -> None:
    whole = labelled_since(site.scores, "tiny", CLASSES)
    assert len(whole) == whole["image_id"].nunique() == 87, "three of 90 are copies"
    changed, removed, kept = (Path(place, file) for place, file in whole[["place", "file"]].head(3).to_numpy())
    data = {path: path.read_bytes() for path in (changed, removed)}
    try:
        changed.write_bytes(kept.read_bytes())
        removed.unlink()
        os.mkfifo(removed)  # is not waited for
        left = labelled_since(site.scores, "tiny", CLASSES)
    finally:
        removed.unlink()
        for path, content in data.items():
            path.write_bytes(content)
    assert set(whole["image_id"]) - set(left["image_id"]) == set(whole["image_id"].head(2))


def test_a_file_that_changes_after_the_table_was_written_is_not_read(tmp_path: Path, head: Run) -> None:
    rows = images_of_run(head).head(2)
    (tmp_path / "one.jpeg").write_bytes(b"another")
    rows = rows.assign(place=str(tmp_path), file=["one.jpeg", "nowhere.jpeg"])
    source = ImageTable(rows, open_source)
    for path, words in zip(rows["path"], ("another file now", "no longer in"), strict=True):
        with pytest.raises(OSError, match=words):
            source.read(path)


def test_without_labels_one_sentence_says_what_to_type(site: Site) -> None:
    with pytest.raises(DataError, match="no image that 'other' has scored has a label yet: `cxr feedback LABELS"):
        labelled_since(site.scores, "other", CLASSES)
