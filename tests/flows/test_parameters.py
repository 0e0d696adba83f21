"""The forms of the flows: their fields are those of the dataclasses, and nothing else."""

import re
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from cxr.config import DataConfig, Execution, RunLocation, ScoreConfig, TrainConfig
from cxr.errors import ConfigError
from data_checks.tolerances import Checking
from flows.parameters import flat_parameters
from flows.score_batch import score_batch
from flows.train_cv import train_cv
from flows.validate_dataset import validate_dataset

FORMS = [
    (train_cv, (TrainConfig, Execution, Checking), ["data"]),
    (validate_dataset, (DataConfig, RunLocation, Checking), ["data"]),
    (score_batch, (ScoreConfig,), ["inbox", "name"]),
]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large.

    Attributes:
        width: Pixels from left to right, at least
            one.
    """

    width: int

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"--width must be 1 or more, got {self.width!r}.")


@dataclass(frozen=True, kw_only=True)
class Frame(Size):
    """How large, and how it is shown.

    Attributes:
        colour: Name of a colour.
    """

    colour: str = "grey"


@flat_parameters
def draw(name: str, frame: Frame, copies: int = 1) -> tuple[str, Frame, int]:
    """Draw a frame.

    Args:
        name: What it is called.
        copies: How many.
    """
    return name, frame, copies


@pytest.mark.parametrize(("flow", "classes", "required"), FORMS)
def test_a_form_has_the_fields_of_the_dataclasses_in_their_order(flow: Flow, classes: Any, required: list[str]) -> None:
    schema = parameter_schema(flow)  # which `prefect deploy` writes
    owned = {field.name: field for record in classes for field in fields(record)}
    own = {"inbox", "tolerances"} if flow is score_batch else set()
    by_position = sorted(schema.properties, key=lambda name: schema.properties[name]["position"])
    assert [name for name in by_position if name not in own] == list(owned)
    assert set(by_position) == own | owned.keys()
    assert schema.required == required
    for name, field in owned.items():
        default = schema.properties[name].get("default", MISSING)
        expected = field.default
        if isinstance(expected, Path | tuple):
            expected = str(expected) if isinstance(expected, Path) else list(expected)
        assert default == expected, name


@pytest.mark.parametrize(("flow", "classes", "required"), FORMS)
def test_a_field_is_described_by_the_sentence_of_the_command_line(
    flow: Flow, classes: Any, required: list[str]
) -> None:
    described = parameter_schema(flow).properties
    sentences = " ".join(" ".join((base.__doc__ or "") for base in record.__mro__) for record in classes).split()
    for name in {field.name for record in classes for field in fields(record)}:
        description = re.sub(r"^\*\*.+?\*\* ", "", described[name]["description"]).split()
        assert len(description) > 1
        assert " ".join([f"{name}:", *description]) in " ".join(sentences), name


def test_the_first_field_of_each_group_has_the_heading_of_the_command_line() -> None:
    fields_of_form = parameter_schema(train_cv).properties.items()
    headed = {name: re.findall(r"^\*\*(.+?)\.\*\*", field["description"]) for name, field in fields_of_form}
    assert {name: heading for name, (heading,) in ((n, h) for n, h in headed.items() if h)} == {
        "data": "Images and folds",
        "labels": "Tables of labels",
        "preset": "Recipe",
        "run_id": "Where it is computed and kept",
        "tolerances": "Data checks",
    }
    assert not any("**" in field["description"] for field in parameter_schema(score_batch).properties.values())


def test_the_inbox_comes_first_and_limits_may_be_typed_into_the_form() -> None:
    properties = parameter_schema(score_batch).properties
    assert properties["inbox"]["position"] == 0
    for flow in (train_cv, validate_dataset, score_batch):
        limits = parameter_schema(flow).properties["tolerances"]["anyOf"]
        assert limits == [
            {"format": "path", "type": "string"},
            {"additionalProperties": {"type": "number"}, "type": "object"},
            {"type": "null"},
        ]


@pytest.mark.parametrize(
    ("flow", "values", "sentence"),
    [
        (train_cv, {"data": "x", "folds": 1}, "--folds must lie between 2 and 20, got 1"),
        (train_cv, {"data": "x", "gpus_per_fold": 2}, "--gpus-per-fold must lie between 0 and 1, got 2"),
        (validate_dataset, {"data": "x", "folds": "21"}, "--folds must lie between 2 and 20, got 21"),
        (score_batch, {"inbox": "x", "name": "y", "workers": 300}, "--workers must lie between 0 and 256, got 300"),
        (
            score_batch,
            {"inbox": "x", "name": "y", "runner": "ray", "workers": 2},
            "--workers 2 is for --runner local: on a Ray cluster every CPU reads files",
        ),
    ],
)
def test_a_wrong_value_in_a_form_is_refused_in_one_sentence(flow: Flow, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        flow.fn(**flow.validate_parameters(values))


def test_values_are_converted_to_their_fields_types() -> None:
    values = train_cv.validate_parameters({"data": "x", "folds": "3", "redo_fold": [1], "experiments": "runs"})
    assert (values["folds"], values["redo_fold"], values["experiments"]) == (3, (1,), Path("runs"))


def test_a_call_makes_the_dataclass_and_leaves_other_parameters_alone() -> None:
    frame = Frame(width=3, colour="red")
    assert draw("door", **asdict(frame)) == draw("door", 3, "red", 1) == ("door", frame, 1)
    assert draw(name="door", width=3, copies=2) == ("door", Frame(width=3), 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'height'"):
        draw("door", 3, height=4)
    with pytest.raises(TypeError, match="missing a required argument: 'width'"):
        draw("door")


def test_the_docstring_describes_every_parameter() -> None:
    assert (draw.__doc__ or "").splitlines() == [
        "Draw a frame.",
        "",
        "Args:",
        "    name: What it is called.",
        "    copies: How many.",
        "    width: Pixels from left to right, at least",
        "        one.",
        "    colour: Name of a colour.",
    ]


def test_a_name_that_stands_twice_is_refused() -> None:
    def draw_twice(frame: Frame, colour: str = "red") -> None: ...

    with pytest.raises(ValueError, match="duplicate parameter name: 'colour'"):
        flat_parameters(draw_twice)
