"""Under which headings `--help` shows verbs and options."""

from dataclasses import is_dataclass
from typing import Any

from cyclopts import App, Argument, ArgumentCollection, Group, Parameter

from cxr.config import Execution, ImagesConfig, RunLocation
from cxr.endpoint.limits import Limits
from cxr.labelling import Labelling, LabelTables
from cxr.prediction_columns import PredictionColumns
from cxr.recipe import Recipe

DATA = Group("Data", sort_key=1)
TRAINING = Group("Training", sort_key=2)
FINISHED_RUNS = Group("Finished runs", sort_key=3)
MODELS = Group("Models", sort_key=4)
SCORING = Group("Scoring", sort_key=5)
SERVICES = Group("Services", sort_key=6)
SHELL = Group("Help and shell", sort_key=8)
"""The groups of verbs."""

OUTPUT = Group("Output", sort_key=90)
_PLACE = Group("Where it is computed and kept", sort_key=14)
_TABLES = Group("Tables of labels", sort_key=12)
OF_CLASS: dict[type, Group] = {
    ImagesConfig: Group("Images and folds", sort_key=11),
    LabelTables: _TABLES,
    Labelling: _TABLES,
    Recipe: Group("Recipe", sort_key=13),
    PredictionColumns: Group("Columns of the table", sort_key=16),
    Limits: Group("Limits of a request", sort_key=17),
    RunLocation: _PLACE,
    Execution: _PLACE,
}
"""The group of the options that a dataclass declares; those of any other stand with the verb's own."""


class GroupedApp(App):
    """An application whose options have the group of the dataclass that declares them."""

    def assemble_argument_collection(
        self, *, default_parameter: Parameter | None = None, parse_docstring: bool = False
    ) -> ArgumentCollection:
        """Return the arguments of this verb, as Cyclopts does, with their groups."""
        arguments = super().assemble_argument_collection(
            default_parameter=default_parameter, parse_docstring=parse_docstring
        )
        for argument in arguments:
            for child in argument.children:
                _put_into_group(child, argument.hint)
        return arguments


def _put_into_group(argument: Argument, record: Any) -> None:
    """Give an option the group of the class that declares its field: the record's, or one that it inherits from."""
    if not is_dataclass(record) or not isinstance(record, type):
        return
    owners = (owner for owner in record.__mro__ if argument.keys[-1] in vars(owner).get("__annotations__", {}))
    group = OF_CLASS.get(next(owners, object))
    if group is not None:
        argument.parameter = Parameter.combine(argument.parameter, Parameter(group=group))
