import json
from dataclasses import fields
from pathlib import Path

import pytest

from cxr.augmentation import POLICIES, Augmentation, as_policy
from cxr.errors import ConfigError

LEAST, MOST = ({each.name: each.metadata[bound] for each in fields(Augmentation)} for bound in ("least", "most"))


def test_zeros_change_nothing_and_both_ends_of_each_range_are_taken() -> None:
    assert Augmentation() == Augmentation(rotation=0, zoom_in=1, zoom_out=1, shift=0, noise=0, erase=0)
    for name in LEAST:
        for value in (LEAST[name], MOST[name]):
            assert getattr(Augmentation(**{name: value}), name) == value


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("beyond", ["less", "more", "nan"])
def test_a_limit_outside_its_range_is_refused_with_the_range(name: str, beyond: str) -> None:
    value = {"less": LEAST[name] - 0.001, "more": MOST[name] + 0.001, "nan": float("nan")}[beyond]
    with pytest.raises(ConfigError) as error:
        Augmentation(**{name: value})
    written = name.replace("_", "-")
    bounds = f"between {LEAST[name]:g} and {MOST[name]:g}"
    assert str(error.value) == f"augmentation: {written} must lie {bounds}, got {value!r}."


def test_a_file_becomes_text_that_means_the_same_policy_without_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gentle.toml"
    file.write_text("rotation = 3\nblur = 0.5\n")
    text = as_policy(str(file))
    file.unlink()
    assert Augmentation.named(text) == Augmentation(rotation=3, blur=0.5)
    assert as_policy(text) == text
    assert json.loads(text)["rotation"] == 3.0


@pytest.mark.parametrize("name", ["none", "mild", "strong"])
def test_a_named_policy_keeps_its_name(name: str) -> None:
    assert as_policy(name) == name
    assert Augmentation.named(name) is POLICIES[name]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rotation = 181", "augmentation: rotation must lie between 0 and 180, got 181"),
        ("turn = 3", "names 'turn', which is no limit of augmentation: they are rotation, zoom_in"),
        ("blur = true", "blur must be a number, got True"),
        ("blur = 'much'", "blur must be a number, got 'much'"),
        ("blur =", r"a TOML file that can be read, got .*\(Invalid value \(at end of document\)\)"),
    ],
)
def test_a_file_of_wrong_limits_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        as_policy(str(file))


@pytest.mark.parametrize("text", ["{", "[1]", '{"blur": null}', "x" * 5000, "a\0b", ".", True, None])
def test_what_is_no_policy_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match="--augment"):
        as_policy(text)  # pyright: ignore[reportArgumentType] as a damaged record would have it


def test_the_strong_policy_is_what_was_measured() -> None:
    strong = POLICIES["strong"]
    assert strong is not None
    assert (strong.zoom_in, strong.zoom_out, strong.aspect, strong.shift) == (0.6, 1.1, 0.2, 0.2)
    assert strong.rotation == 12
    assert 2.718281828**strong.gamma == pytest.approx(2, abs=0.02)
