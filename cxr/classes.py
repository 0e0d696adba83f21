"""The classes of a model, in output order, and which of them is positive."""

from typing import Self

MACRO = "macro"
"""Stands in a table's `class` column for the mean over all classes, where there are more than two."""


class Classes(tuple[str, ...]):
    """Class names, in output order; of two classes the positive one is last.

    Everything that depends on whether there are two classes or more is asked here.
    """

    __slots__ = ()

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes, one of them positive."""
        return len(self) == 2

    @property
    def positive(self) -> str | None:
        """The positive class; None where there are more than two."""
        return self[1] if self.is_binary else None

    @property
    def headline(self) -> str:
        """The row of a metrics table that stands for the model: the positive class, or the macro average."""
        return self.positive or MACRO

    @property
    def evaluated(self) -> Self:
        """The classes that get metrics of their own: the positive one, or each of more than two."""
        return type(self)(self[1:] if self.is_binary else self)

    @property
    def probability_columns(self) -> list[str]:
        """Names of the columns that hold each class's probability."""
        return [f"probability_{name}" for name in self]

    @property
    def logit_columns(self) -> list[str]:
        """Names of the columns that hold each class's logit."""
        return [f"logit_{name}" for name in self]
