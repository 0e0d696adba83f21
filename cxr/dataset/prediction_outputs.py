"""Which columns of a table of predictions are outputs, of which classes or findings, and whether they are such."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.classes import MACRO, Classes, Findings, Link, spell_apart, spelt_alike
from cxr.dataset.prediction_labels import require_own_columns
from cxr.errors import ConfigError, DataError
from cxr.labels.columns import require_column
from cxr.labels.tables import Table
from cxr.metrics.link import probabilities
from cxr.prediction_columns import PredictionColumns

Kind = Literal["probability", "logit"]
LOGIT = "logit_"
PROBABILITIES = ("probability_", "prob_", "proba_")
"""What the names of columns begin with that hold the output of the class whose name follows."""
SINGLE = ("probability", "prob", "proba", "y_prob")
"""Names of a column that holds the probability of the class that --positive names."""
TOP_K = ("index_0", "label_0")
"""Columns of a table that ranks classes in each row, so that its columns belong to no class."""
ROUNDING = 0.01
"""Probabilities of an image may sum to 1 within this much, as rounded ones do; they are divided by their sum."""
OF_CLASSES = "CLASS=COLUMN for each class, or say with --value which label is which class"
OF_FINDINGS = "FINDING=COLUMN for each finding"
LEAST = 1e-15
"""The least probability that a logarithm is taken of, as in the log loss."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of each image, by class or finding."""

    kind: Kind
    columns: Mapping[str, str]
    """The column of each class that has one."""
    values: pd.DataFrame
    """One column per class: probabilities, which sum to 1 over classes, or logits."""
    single: str | None = None
    """The class whose probability is the only column."""

    @property
    def names(self) -> list[str]:
        """The classes or findings."""
        return list(map(str, self.values))

    def n_certain(self, names: Classes | Findings) -> int:
        """Return how many images have a class of probability 0, or a finding of probability 0 or 1."""
        if self.kind == "logit":
            return 0
        is_certain = self.values.isin((0, 1) if isinstance(names, Findings) else (0,))
        return int(is_certain.any(axis=1).sum())

    def table(self, names: Classes | Findings) -> pd.DataFrame:
        """Return logit_<class> and probability_<class>.

        The logit of a class's probability is its logarithm, that of a finding's probability the logarithm of the odds.
        """
        values = self.values[list(names)].to_numpy(float)
        if self.kind == "logit":
            logits, probability = values, probabilities(values, names.link)
        else:
            logits, probability = _logarithm(values), values
            if isinstance(names, Findings):
                logits = logits - _logarithm(1 - values)
        columns = dict(zip(names.logit_columns, logits.T, strict=True))
        columns |= dict(zip(names.probability_columns, probability.T, strict=True))
        return pd.DataFrame(columns, self.values.index)


def _logarithm(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.clip(shares, LEAST, 1))


def find_outputs(table: Table, labels: pd.Series, columns: PredictionColumns, path: str) -> Outputs:
    """Return the outputs of the images.

    Args:
        table: of the images that have a label.
        labels: the class of each.
        columns: which columns mean what.
        path: the column that names the image, for messages.

    Raises:
        ConfigError: which class a column belongs to has to be said.
        DataError: the outputs are no probabilities or logits of the labels' classes.
    """
    known = sorted(labels.unique())
    kind, by_class = _chosen(columns, table) or _found(columns, table, known, OF_CLASSES)
    _require_names([*known, *by_class])
    values = pd.DataFrame({name: _numbers(table, column, path) for name, column in by_class.items()}, table.rows.index)
    images = table.rows[path]
    if kind == "probability":
        _require_probabilities(values, by_class, images)
    if len(by_class) == 1:
        return _of_single_column(kind, by_class, values, known)
    _require_same_classes(known, by_class, labels, images)
    if kind == "logit":
        _require_agreement(values, table, columns, path, "softmax")
        return Outputs(kind, by_class, values)
    total = values.sum(axis=1)
    is_wrong = (total - 1).abs() > ROUNDING
    if is_wrong.any():
        raise DataError(
            f"the probabilities of an image must sum to 1, got {total[is_wrong].iloc[0]:.4g} for "
            f"{images[is_wrong].iloc[0]!r} ({is_wrong.sum():,} such rows): give logits with --logit-column, or name "
            "the label of each of several findings with --label-columns."
        )
    return Outputs(kind, by_class, values.div(total, axis=0))


def find_outputs_of_findings(
    table: Table, findings: list[str], taken: Collection[str], columns: PredictionColumns, path: str
) -> Outputs:
    """Return the outputs of several findings per image, each a probability or a logit of its own.

    Args:
        table: of the images in which a finding is known.
        findings: that have labels.
        taken: columns of the same table that hold labels.
        columns: which columns mean what.
        path: the column that names the image, for messages.

    Raises:
        ConfigError: which finding a column belongs to has to be said.
        DataError: a finding has no outputs, or they are no probabilities or logits; or an output has no label.
    """
    rest = replace(table, rows=table.rows[[name for name in table.rows if name == path or name not in taken]])
    chosen = _chosen(columns, table)
    if chosen and (labels := [column for column in chosen[1].values() if column in taken]):
        raise ConfigError(
            f"column {labels[0]!r} holds the label of a finding, and --{chosen[0]}-column names it as an output: give "
            "the column of the output."
        )
    kind, by_finding = chosen or _found(columns, rest, findings, OF_FINDINGS)
    require_own_columns(by_finding)
    if lacking := [name for name in findings if name not in by_finding]:
        raise DataError(
            f"finding {lacking[0]!r} has labels and no output; there are {', '.join(map(repr, list(by_finding)[:6]))}: "
            f"give its column with --{kind}-column {lacking[0]}=COLUMN, or leave the finding out of the labels."
        )
    if extra := [name for name in by_finding if name not in findings and (chosen or not columns.label_columns)]:
        raise DataError(
            f"finding {extra[0]!r} has an output and no label; labels are of {', '.join(map(repr, findings[:6]))}: "
            "give its label, or name with --label-columns those to appraise."
        )
    by_finding = {name: by_finding[name] for name in findings}
    values = pd.DataFrame(
        {name: _numbers(table, column, path) for name, column in by_finding.items()}, table.rows.index
    )
    if kind == "probability":
        _require_probabilities(values, by_finding, table.rows[path])
    else:
        _require_agreement(values, rest, columns, path, "sigmoid")
    return Outputs(kind, by_finding, values)


def _chosen(columns: PredictionColumns, table: Table) -> tuple[Kind, dict[str, str]] | None:
    """Return the columns that options name; None if they name none."""
    kind: Kind = "logit" if columns.logit_column else "probability"
    given = columns.logit_column or columns.probability_column
    by_class: dict[str, str] = {}
    for text in given:
        name, sign, column = text.partition("=")
        if not (name and sign and column):
            raise ConfigError(f"--{kind}-column must look like PNEUMONIA=COLUMN (CLASS=COLUMN), got {text!r}.")
        if name in by_class:
            raise ConfigError(f"--{kind}-column names class {name!r} twice: give each class one column.")
        require_column(column, [table])
        by_class[name] = column
    return (kind, by_class) if by_class else None


def _found(columns: PredictionColumns, table: Table, known: list[str], way_out: str) -> tuple[Kind, dict[str, str]]:
    """Return the columns whose names say of which class or finding they are."""
    names = list(map(str, table.rows))
    ranked = [name for name in TOP_K if name in names]
    if ranked:
        raise ConfigError(
            f"column {ranked[0]!r} says that {table.name!r} ranks the classes in each row, so no column belongs to a "
            "class: write the output of every class (timm's inference.py: --topk 0), or give --probability-column "
            "CLASS=COLUMN."
        )
    families = {prefix: _family(prefix, names, known) for prefix in PROBABILITIES}
    families["the class names"] = {name: name for name in known} if set(known) <= set(names) else {}
    found = {prefix: family for prefix, family in families.items() if family}
    if len(found) > 1:
        first, second, *_ = (next(iter(family.values())) for family in found.values())
        raise ConfigError(f"the columns {first!r} and {second!r} may both be probabilities: give --probability-column.")
    if logits := _family(LOGIT, names, known):
        return "logit", logits
    if found:
        return "probability", next(iter(found.values()))
    single = [name for name in names if name.casefold() in SINGLE]
    if single and columns.positive is None:
        raise ConfigError(
            f"column {single[0]!r} does not say of which class it is the probability: give --probability-column "
            f"{known[-1]}={single[0]}, if it is of that class."
        )
    if len(single) == 1:
        return "probability", {str(columns.positive): single[0]}
    raise ConfigError(
        f"no columns of {table.name!r} are named after its labels {', '.join(map(repr, known[:6]))} (such as "
        f"{PROBABILITIES[0]}{known[0]}): give --probability-column or --logit-column {way_out}."
    )


def _family(prefix: str, names: list[str], known: list[str]) -> dict[str, str]:
    """Return the columns with a prefix by class; none if no label is among the classes."""
    family = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    return family if set(family) & set(known) else {}


def _require_names(names: list[str]) -> None:
    if alike := spelt_alike(names):
        raise DataError(
            f"the classes {' and '.join(spell_apart(alike))} differ only in letter case, spaces or Unicode form: make "
            "labels and columns the same, or say with --value what a label means."
        )
    if MACRO in names:
        raise DataError(f"a class cannot be named {MACRO!r}, which stands for the mean over classes: rename it.")


def _numbers(table: Table, column: str, path: str) -> NDArray[np.float64]:
    text = table.rows[column]
    values = pd.to_numeric(text, errors="coerce").astype("float64")
    is_wrong = ~np.isfinite(values)
    if is_wrong.any():
        first = text[is_wrong].iloc[0]
        raise DataError(
            f"column {column!r} must hold one number for each image, got "
            f"{'nothing' if pd.isna(first) else repr(first[:40])} for {table.rows.loc[is_wrong, path].iloc[0]!r} "
            f"({is_wrong.sum():,} such rows): write one column per class, and predict the image again or take out its "
            "row."
        )
    return np.asarray(values, np.float64)


def _require_probabilities(values: pd.DataFrame, by_class: Mapping[str, str], images: pd.Series) -> None:
    for name, column in by_class.items():
        is_wrong = ~values[name].between(0, 1)
        if is_wrong.any():
            raise DataError(
                f"a probability lies between 0 and 1, got {values.loc[is_wrong, name].iloc[0]:.6g} in column "
                f"{column!r} for {images[is_wrong].iloc[0]!r} ({is_wrong.sum():,} such rows): if these are logits, "
                "give --logit-column CLASS=COLUMN for each class."
            )


def _of_single_column(kind: Kind, by_class: Mapping[str, str], values: pd.DataFrame, known: list[str]) -> Outputs:
    """Return the outputs of two classes from the probability of one of them."""
    ((name, column),) = by_class.items()
    if kind == "logit":
        raise ConfigError(
            f"the logit of class {name!r} alone gives no probability: give the logits of all classes, or the "
            f"probability with --probability-column {name}=COLUMN."
        )
    if name not in known or len(known) != 2:
        raise DataError(
            f"one probability is enough for two classes, one of which it is of; it is of {name!r}, and the labels are "
            f"{', '.join(map(repr, known[:6]))}: give one column per class, or say with --value which label is which "
            "class."
        )
    if (values[name] >= 0.5).all():
        raise DataError(
            f"no value of column {column!r} is below 0.5, as if it were the probability of whichever class is "
            "predicted: give the probability of one and the same class, or of each class a column."
        )
    other = next(label for label in known if label != name)
    return Outputs(kind, by_class, values.assign(**{other: 1 - values[name]}), single=name)


def _require_same_classes(known: list[str], by_class: Mapping[str, str], labels: pd.Series, images: pd.Series) -> None:
    if unknown := [name for name in known if name not in by_class]:
        where = labels == unknown[0]
        raise DataError(
            f"label {unknown[0]!r} ({where.sum():,} row{'' if where.sum() == 1 else 's'}, such as "
            f"{images[where].iloc[0]!r}) has no column; there are {', '.join(map(repr, list(by_class)[:6]))}: give its "
            "column, or say with --value which class it means."
        )
    if empty := [name for name in by_class if name not in known]:
        raise DataError(
            f"class {empty[0]!r} has a column and no image, so it cannot be appraised: add images of it, or merge it "
            "with another class, in the columns and in the labels."
        )


def _require_agreement(logits: pd.DataFrame, table: Table, columns: PredictionColumns, path: str, link: Link) -> None:
    """Raise DataError if a table has logits and probabilities, and they do not belong together."""
    if columns.logit_column:
        return
    by_class = {name: f"{PROBABILITIES[0]}{name}" for name in logits}
    if not set(by_class.values()) <= set(table.rows):
        return
    stated = np.stack([_numbers(table, column, path) for column in by_class.values()], axis=1)
    if (np.abs(stated - probabilities(logits.to_numpy(float), link)) > ROUNDING).any():
        raise DataError(
            f"the columns {LOGIT}… of {table.name!r} are no logits of its columns {PROBABILITIES[0]}…, as their {link} "
            "differs: give --probability-column or --logit-column CLASS=COLUMN, whichever is right."
        )
