"""A flow's form in the UI, described with the sentences that the command line shows."""

from collections.abc import Callable
from inspect import cleandoc, getdoc
from textwrap import indent
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def described_by(*configs: type) -> Callable[[Function], Function]:
    """Give a flow function the `Attributes` of config classes as the `Args` of its docstring.

    Prefect takes the description of each field of a deployment's form from there.
    """

    def describe(function: Function) -> Function:
        classes = dict.fromkeys(base for config in configs for base in reversed(config.__mro__))
        attributes = [(base.__doc__ or "").partition("Attributes:\n")[2].rstrip() for base in classes]
        function.__doc__ = "\n".join(
            [getdoc(function) or "", "", "Args:", *(indent(cleandoc(lines), "    ") for lines in attributes if lines)]
        )
        return function

    return describe
