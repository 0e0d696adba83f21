"""A flow's form in the UI, described with the sentences that the command line shows."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def described_by(*configs: type) -> Callable[[Function], Function]:
    """Give a flow function the `Attributes` of config classes as the `Args` of its docstring.

    Prefect takes the description of each field of a deployment's form from there.
    """

    def describe(function: Function) -> Function:
        attributes = [(inspect.getdoc(config) or "").partition("Attributes:\n")[2].rstrip() for config in configs]
        function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Args:", *attributes])
        return function

    return describe
