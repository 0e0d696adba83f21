"""The descriptions that come with the program."""

import pytest

from cxr.config import DataConfig
from cxr.descriptions import shipped
from tests.support.collections import MINIATURES


def test_every_description_has_a_title_and_a_miniature() -> None:
    names = {description.name for description in shipped()}
    assert names == set(MINIATURES)
    assert all(description.title for description in shipped())


@pytest.mark.parametrize("name", sorted(MINIATURES))
def test_a_description_holds_options_alone_and_leaves_what_is_open_to_the_user(name: str) -> None:
    config = DataConfig(data="x", describe=name)
    assert config.reads_tables
    assert (config.uncertain, config.blank, config.rows, config.missing_films) == (None, None, None, "refuse")
