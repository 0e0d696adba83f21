import re

from app.server import Folders
from tests.app.support import opened, texts


def test_models_show_the_champion_its_history_and_card(folders: Folders) -> None:
    view = opened("models", folders)
    assert view.selectbox[1].options == ["1, champion"]
    assert view.dataframe[1].value["why"].tolist() == ["the first champion"]
    assert "Trained on the images described here" in texts(view)
    assert "license:" not in texts(view), "metadata is for machines"
    hashes = re.findall(r"data, SHA-256 \| `(.*)`", texts(view))
    assert [re.sub("[0-9a-f]", "", digest) for digest in hashes] == ["…"], "a whole one is wider than a narrow screen"
    assert len(hashes[0]) == 13


def test_the_threshold_that_the_model_uses_is_marked(folders: Folders) -> None:
    thresholds = opened("models", folders).table[0].value
    assert thresholds.index[2] == "best of both rates, Youden, used"
