import json

import pytest

from cxr.config import DataConfig, TrainConfig
from cxr.errors import ConfigError
from cxr.recipe import PRESETS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 31),
        ("size", 1025),
        ("epochs", 0),
        ("folds", 1),
        ("folds", 21),
        ("leave_out", "scanner"),
        ("seed", -1),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("trainable", "tail"),
        ("precision", "int8"),
        ("preset", "better"),
        ("standardise", "histogram"),
        ("test_views", "crops"),
        ("progressive", 0.95),
        ("augment", "wild"),
        ("mixup", 2.1),
        ("average", 1.0),
        ("warm_up", 1.0),
        ("label_smoothing", -0.1),
        ("patient_pattern", "("),
        ("patient_pattern", "no group"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"--{field.replace('_', '-')}"):
        TrainConfig(data="images", **{field: value})


def test_a_frozen_random_trunk_is_refused() -> None:
    with pytest.raises(ConfigError, match="--trainable all"):
        TrainConfig(data="images", weights="none", trainable="head")


def test_pretrained_blocks_are_not_reset_to_the_identity() -> None:
    with pytest.raises(ConfigError, match=r"--zero-init-residual .* --weights is 'imagenet-v1'"):
        TrainConfig(data="images", zero_init_residual=True)


def test_a_config_survives_its_dictionary() -> None:
    config = TrainConfig(data="images", folds=7, holdout="test", preset="best")
    assert TrainConfig.from_dict(config.as_dict()) == config


def test_the_default_run_id_follows_from_the_parameters_alone() -> None:
    assert TrainConfig(data="images").default_run_id == TrainConfig(data="images").default_run_id
    assert TrainConfig(data="images").default_run_id != TrainConfig(data="images", seed=1).default_run_id


def test_a_config_from_before_a_field_was_added_keeps_its_identity_and_its_name() -> None:
    config = TrainConfig(data="images")
    assert not config.as_dict().keys() & {"leave_out", "test_views", "progressive", "zero_init_residual"}
    assert TrainConfig.from_dict(config.as_dict()).leave_out == "patient"
    assert config.default_run_id == "head-224px-9dd80257"
    by_cluster = TrainConfig(data="images", leave_out="cluster")
    assert by_cluster.as_dict()["leave_out"] == "cluster"
    assert TrainConfig.from_dict(by_cluster.as_dict()) == by_cluster
    assert by_cluster.default_run_id != config.default_run_id


def test_named_class_folders_are_part_of_the_identity_and_survive_json() -> None:
    config = TrainConfig(data="images", class_folder=("health", "tb"))
    assert config.as_dict()["class_folder"] == ["health", "tb"]
    assert TrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    assert config.default_run_id != TrainConfig(data="images").default_run_id
    assert "class_folder" not in TrainConfig(data="images").as_dict()


def test_a_config_from_before_a_field_was_added_means_what_it_did_whatever_the_presets_say_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = TrainConfig(data="images", weights="none").as_dict()
    options = PRESETS["standard"]("none") | {"test_views": "zoom", "progressive": 0.5}
    monkeypatch.setitem(PRESETS, "standard", lambda _: options)
    config = TrainConfig.from_dict(before)
    assert (config.test_views, config.progressive) == ("none", 0)
    assert config.as_dict() == before
    assert DataConfig.from_dict({"data": "images"}) == DataConfig(data="images")
