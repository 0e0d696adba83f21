"""A flow's parameters from the dataclasses that own them: one name, type, default and sentence for every front end.

Prefect validates a flow's parameters one by one, and draws a form with a field for each. A flow that took a dataclass
would get a field of JSON. So the fields stand one below the other, and the first of each group has its heading, that of
`--help`, in bold before its sentence.
"""

import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from textwrap import dedent, indent
from typing import Any, TypeVar, get_type_hints

from cxr.cli.groups import OF_CLASS
from data_checks.tolerances import Checking

Result = TypeVar("Result")
HEADINGS = {owner: group.name for owner, group in OF_CLASS.items()} | {Checking: "Data checks"}
"""The heading of the parameters that a dataclass declares; those of any other begin the form, without one."""


def flat_parameters(function: Callable[..., Result]) -> Callable[..., Result]:
    """Return the function with a parameter for each field of the dataclasses that it takes.

    The fields take the place of their dataclass, in their order, with their types and defaults. Each is described by
    its sentence under `Attributes`; other parameters stay, and are described under `Args`. A call makes the
    dataclasses, which check their values, and passes them to the function.

    Raises:
        ValueError: two parameters have the same name, or one without a default follows one that has a default.
    """
    types = get_type_hints(function)
    names = list(inspect.signature(function).parameters)
    records = {name: types[name] for name in names if dataclasses.is_dataclass(types[name])}
    signature = _flat_signature(function, records)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Result:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return function(**{name: _argument(name, records, bound.arguments) for name in names})

    call.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue] Prefect reads it
    call.__doc__ = _described(function, records)
    return call


def _flat_signature(function: Callable[..., Any], records: Mapping[str, Any]) -> inspect.Signature:
    types = get_type_hints(function)
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in records:
            parameters.extend(_fields_as_parameters(records[name]))
        else:
            parameters.append(parameter.replace(annotation=types[name]))
    return inspect.Signature(parameters, return_annotation=types["return"])


def _fields_as_parameters(record: Any) -> Iterator[inspect.Parameter]:
    types = get_type_hints(record)
    for field in dataclasses.fields(record):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        yield inspect.Parameter(field.name, kind, default=default, annotation=types[field.name])


def _argument(name: str, records: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    if name not in records:
        return values[name]
    return records[name](**{field.name: values[field.name] for field in dataclasses.fields(records[name])})


def _described(function: Callable[..., Any], records: Mapping[str, Any]) -> str:
    """Return the function's docstring; its `Args` include the `Attributes` of the dataclasses and of their bases."""
    text, _, own = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    classes = dict.fromkeys(base for record in records.values() for base in reversed(record.__mro__))
    parts = [(HEADINGS.get(base), _attributes(base)) for base in classes if _attributes(base)]
    groups = itertools.groupby(parts, key=lambda part: part[0])
    attributes = [_headed(heading, "\n".join(text for _, text in group)) for heading, group in groups]
    lines = [indent(part, "    ") for part in (dedent(own.rstrip()), *attributes) if part]
    return "\n".join([text.rstrip(), "", "Args:", *lines])


def _attributes(record: type) -> str:
    """Return the lines under `Attributes` in a class's docstring; empty without any."""
    return dedent(inspect.cleandoc(record.__doc__ or "").partition("Attributes:\n")[2].rstrip())


def _headed(heading: str | None, attributes: str) -> str:
    """Return the lines of attributes, with the heading in bold before the first one's sentence."""
    return re.sub(r"\A(\w+): ", rf"\1: **{heading}.** ", attributes) if heading else attributes
