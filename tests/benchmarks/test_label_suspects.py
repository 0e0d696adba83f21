import hashlib
import zipfile
from collections import Counter
from pathlib import Path

import pandas as pd

from benchmarks.label_suspects import SHARE, plant_errors
from cxr.dataset.listing.layout import list_images
from cxr.images.source import open_source


def contents(data: Path) -> pd.DataFrame:
    source = open_source(str(data))
    rows = [
        (hashlib.sha256(source.read(image.key)).hexdigest(), image.path, image.class_folder, image.split)
        for image in list_images(source).images
    ]
    return pd.DataFrame(rows, columns=["image_id", "path", "label", "split"])


def test_errors_are_planted_outside_the_test_split_and_in_all_copies_of_an_image(sample: Path, tmp_path: Path) -> None:
    planted = plant_errors(str(sample), tmp_path / "planted.zip", seed=3)
    before, after = contents(sample), contents(tmp_path / "planted.zip")
    assert Counter(before["image_id"]) == Counter(after["image_id"])
    truth = before.drop_duplicates("image_id").set_index("image_id")
    after = after.assign(truth=truth["label"][after["image_id"]].to_numpy())
    assert set(after.loc[after["label"] != after["truth"], "path"]) == planted
    moved = after[after["path"].isin(planted)]
    assert not moved["split"].eq("test").any()
    assert after.groupby("image_id")["label"].nunique().max() == 1
    in_test = set(before.loc[before["split"] == "test", "image_id"])
    assert moved["image_id"].nunique() == round(SHARE * len(set(before["image_id"]) - in_test)) > 0
    assert zipfile.ZipFile(tmp_path / "planted.zip").testzip() is None
