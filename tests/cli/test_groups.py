import dataclasses

from cyclopts import Argument

from cxr.cli.groups import OF_CLASS, GroupedApp
from cxr.config import ImagesConfig, ScoreConfig, TrainConfig
from cxr.labelling import Labelling
from cxr.recipe import Recipe


def groups_of(config: type) -> dict[str, set[str]]:
    """Return the headings of a verb's options, by their last key."""
    app = GroupedApp()

    @app.default
    def verb(own: int = 1, *, config: config) -> None: ...  # pyright: ignore[reportInvalidTypeForm]

    def leaves(argument: Argument) -> list[Argument]:
        return [leaf for child in argument.children for leaf in leaves(child)] or [argument]

    arguments = [leaf for argument in app.assemble_argument_collection() for leaf in leaves(argument)]
    return {
        argument.keys[-1] if argument.keys else "own": {
            getattr(group, "name", group) for group in argument.parameter.group
        }
        for argument in arguments
    }


def test_an_option_stands_under_the_heading_of_the_class_that_declares_it() -> None:
    groups = groups_of(TrainConfig)
    declared = {
        field.name: owner
        for owner in (ImagesConfig, Labelling, Recipe)
        for field in dataclasses.fields(owner)
        if field.name in vars(owner).get("__annotations__", {})
    }
    assert len(declared) > 30
    for name, owner in declared.items():
        assert OF_CLASS[owner].name in groups[name], name


def test_an_option_of_the_verb_itself_keeps_its_own_heading() -> None:
    titles = {group.name for group in OF_CLASS.values()}
    assert not groups_of(TrainConfig)["own"] & titles


def test_a_dataclass_without_a_heading_leaves_its_options_with_the_verbs_own() -> None:
    groups = groups_of(ScoreConfig)
    assert ScoreConfig not in OF_CLASS
    assert groups["settle"] == groups["own"]
