"""The classes of a model, in output order, and which of them is positive."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import Self

MACRO = "macro"
"""What the `class` column of a table holds for the mean over all classes, where there are more than two."""


class Classes(tuple[str, ...]):
    """Class names, in output order; for two classes, the positive class is last.

    The one place that knows what depends on whether there are two classes or more.
    """

    __slots__ = ()

    @property
    def is_binary(self) -> bool:
        """Return whether there are two classes, one of them positive."""
        return len(self) == 2

    @property
    def positive(self) -> str | None:
        """The positive class; None for more than two classes."""
        return self[1] if self.is_binary else None

    @property
    def headline(self) -> str:
        """The class whose metrics sum up a model: the positive one, or `macro` for more than two."""
        return self.positive or MACRO

    @property
    def evaluated(self) -> Self:
        """The classes that are evaluated against the rest: the positive one, or each of more than two."""
        return type(self)(self[1:] if self.is_binary else self)

    @property
    def probability_columns(self) -> list[str]:
        """Names of the columns with each class's probability."""
        return [f"probability_{name}" for name in self]

    @property
    def logit_columns(self) -> list[str]:
        """Names of the columns with each class's logit."""
        return [f"logit_{name}" for name in self]


def spelt_alike(names: Iterable[str]) -> list[str]:
    """Return the first names that differ only in letter case, spaces or Unicode form; empty if all names differ.

    Such names are one class to a person. Source: the Unicode Standard, D145 (canonical caseless matching).
    """
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        caseless = unicodedata.normalize("NFD", name).casefold()
        spellings[" ".join(unicodedata.normalize("NFC", caseless).split())].append(name)
    return next((alike for alike in spellings.values() if len(alike) > 1), [])


def spell_apart(names: Iterable[str]) -> list[str]:
    """Return each name in quotation marks; with escapes where two of them would look alike."""
    names = list(names)
    look_alike = len({unicodedata.normalize("NFC", name) for name in names}) < len(names)
    return [ascii(name) if look_alike else repr(name) for name in names]
