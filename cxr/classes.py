"""What a network's outputs mean: classes, of which an image has one, or findings, of which it may have several.

The type decides the link between logits and probabilities, and with it the loss, the calibration and the thresholds:
`Classes` share the probability of an image (softmax), each of `Findings` has its own (sigmoid). A single finding is
evaluated as the two classes of `Findings.against_absence`, so what is computed for two classes holds for it as well.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from cxr.errors import ConfigError, TaskError

Link = Literal["softmax", "sigmoid"]
MACRO = "macro"
"""What the `class` column of a table holds for the mean over all findings, or over all classes of more than two."""
FINDING = "finding_"
"""What the name of a column with a finding's label begins with."""
SEPARATOR = "|"
"""What separates findings where those of an image are one string, as in the NIH set."""
NO_FINDING = "no finding"
"""What stands in that string where every finding is absent."""
REFER = "refer"
"""The answer for an image that no class fits, or several do."""


class Outputs(tuple[str, ...]):
    """The names of a network's outputs, in their order."""

    __slots__ = ()

    @property
    def probability_columns(self) -> list[str]:
        """Names of the columns with each output's probability."""
        return [f"probability_{name}" for name in self]

    @property
    def logit_columns(self) -> list[str]:
        """Names of the columns with each output's logit."""
        return [f"logit_{name}" for name in self]


class Classes(Outputs):
    """Class names, in output order; for two classes, the positive class is last.

    The one place that knows what depends on whether there are two classes or more.
    """

    __slots__ = ()

    link: Link = "softmax"

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


class Findings(Outputs):
    """Names of the findings of which an image may have none, one or several, in output order."""

    __slots__ = ()

    link: Link = "sigmoid"
    is_binary = False
    positive = None
    headline = MACRO

    @property
    def columns(self) -> list[str]:
        """Names of the columns with each finding's label: whether it is present; missing where unknown."""
        return [f"{FINDING}{name}" for name in self]

    @property
    def called_columns(self) -> list[str]:
        """Names of the columns that say whether each finding is predicted."""
        return [f"called_{name}" for name in self]

    def against_absence(self, name: str) -> Classes:
        """Return one of the findings as two classes: its absence, and the finding, which is positive."""
        return Classes((f"no {name}", name))

    @classmethod
    def of_columns(cls, columns: Iterable[str]) -> Self:
        """Return the findings whose labels a table holds, in the order of its columns.

        Raises:
            ConfigError: two findings are spelt almost alike, or a name is none for a finding.
        """
        names = [column.removeprefix(FINDING) for column in columns if column.startswith(FINDING)]
        if alike := spelt_alike(names):
            raise ConfigError(
                f"the findings {' and '.join(spell_apart(alike))} differ only in letter case, spaces or Unicode form: "
                "give each finding one column."
            )
        for name in names:
            if not name.strip() or SEPARATOR in name or name == MACRO:
                raise ConfigError(
                    f"{name!r} cannot name a finding: a name holds no {SEPARATOR!r}, is not empty and not {MACRO!r}; "
                    "rename its column."
                )
        return cls(names)


def outputs_of(names: Iterable[str], *, several: bool) -> Classes | Findings:
    """Return what the outputs of a network mean.

    Args:
        names: of the outputs.
        several: whether an image may have several of them.
    """
    return Findings(names) if several else Classes(names)


def outputs_of_record(record: Mapping[str, Any]) -> Classes | Findings:
    """Return what the outputs of a run or a packaged model mean.

    Args:
        record: its config.json or package.json.
    """
    return outputs_of(record["classes"], several=record.get("config", {}).get("task") == "multi")


def require_classes(outputs: Classes | Findings, owner: str) -> Classes:
    """Return the classes of a run or a model, for what is defined for one label per image alone.

    Args:
        outputs: of the run or the model.
        owner: what it is, such as `run 'first'`.

    Raises:
        TaskError: it has findings.
    """
    if isinstance(outputs, Findings):
        raise for_one_label(owner)
    return outputs


def for_one_label(owner: str) -> TaskError:
    """Return the error for a run or a model with findings where one label per image is needed."""
    return TaskError(
        f"{owner} predicts several findings per image (--task multi), and this is for one label per image: "
        "give one that was trained with --task single."
    )


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
