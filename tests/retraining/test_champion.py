from pathlib import Path

import pytest

from cxr.errors import RunError
from cxr.retraining.champion import images_met, run_of
from cxr.serving.registry import load_champion
from cxr.training.run import Run
from tests.support.retraining import Site


def test_another_run_of_the_name_is_not_taken_for_the_champions(site: Site, three: Run, tmp_path: Path) -> None:
    champion = load_champion(site.path / "models", "tiny")
    with pytest.raises(RunError, match="no run"):
        run_of(champion, tmp_path)
    (tmp_path / champion.facts["run_id"]).symlink_to(three.folder.path)
    with pytest.raises(RunError, match="is not the one that version 1 of tiny was made from"):
        run_of(champion, tmp_path)


def test_the_champion_has_met_the_images_that_it_was_made_from(site: Site, head: Run) -> None:
    met = images_met(load_champion(site.path / "models", "tiny"), site.scores)
    assert met >= set(head.images()["image_id"])
