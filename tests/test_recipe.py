import json
from pathlib import Path

import pytest

from cxr.augmentation import Augmentation
from cxr.config import TrainConfig
from cxr.errors import ConfigError
from cxr.recipe import PRESETS, Recipe


@pytest.mark.parametrize("weights", ["imagenet-v1", "none"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_a_value_for_every_option_and_a_flag_overrides_one(preset: str, weights: str) -> None:
    options = PRESETS[preset](weights)
    recipe = Recipe(preset=preset, weights=weights)
    assert {name: getattr(recipe, name) for name in options} == options
    changed = Recipe(preset=preset, weights=weights, epochs=3)
    assert {name: getattr(changed, name) for name in options} == options | {"epochs": 3}
    assert None not in vars(recipe).values()


def test_who_says_nothing_gets_the_standard_preset_and_its_name_is_no_part_of_a_run() -> None:
    config = TrainConfig(data="images", weights="none")
    assert config == TrainConfig(data="images", weights="none", preset="standard")
    typed = TrainConfig(data="images", preset="best", **PRESETS["standard"]("none"), weights="none")
    assert typed.default_run_id == config.default_run_id
    assert "preset" not in config.as_dict()


def test_a_file_of_limits_becomes_part_of_the_config(tmp_path: Path) -> None:
    file = tmp_path / "gentle.toml"
    file.write_text("rotation = 3\nblur = 0.5\n")
    config = TrainConfig(data="images", augment=str(file))
    file.unlink()
    assert config.policy == Augmentation(rotation=3, blur=0.5)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    assert TrainConfig(data="images", augment=config.augment) == config


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "none", "trainable": "head"}, "no layer is worth freezing"),
        ({"trainable": "all", "views": 2}, "--views is for frozen layers"),
        ({"trainable": "head", "views": 2, "augment": "none"}, "--views 2 needs augmented images"),
        ({"test_views": "zoom-and-flip"}, "which it does not see in training: give --flip, or --test-views zoom"),
        ({"trainable": "head", "progressive": 0.5}, "--progressive 0.5 needs --trainable all, got 'head'"),
        ({"trainable": "all", "progressive": 0.5, "size": 63}, "give --size 64 or more, got 63"),
        ({"trainable": "all", "progressive": 0.1, "epochs": 4}, "--progressive 0.1 of 4 epochs is no whole epoch"),
        ({"trainable": "all", "progressive": 0.9, "epochs": 1}, "--progressive 0.9 of 1 epochs is no whole epoch"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TrainConfig(data="images", **options)


@pytest.mark.parametrize(
    ("share", "epochs", "small"), [(0.5, 10, 5), (0.3, 36, 11), (0.29, 100, 29), (0.9, 2, 1), (0.9, 72, 65)]
)
def test_a_share_of_the_epochs_is_trained_on_half_the_side_and_never_the_last(
    share: float, epochs: int, small: int
) -> None:
    assert Recipe(weights="none", progressive=share, epochs=epochs).half_size_epochs == small
