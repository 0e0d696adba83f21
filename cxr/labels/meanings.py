"""What the values of label columns mean: each finding present, absent or unknown.

Numbers and plain words are known; whatever else a column holds is asked for. Uncertain and blank values have no meaning
of their own, because published work disagrees on it: the options say it where such values occur.
"""

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.errors import ConfigError, DataError
from cxr.labelling import Labelling

PRESENT, ABSENT, UNCERTAIN, UNKNOWN, BLANK = "present", "absent", "uncertain", "unknown", "blank"
WORDS = {
    PRESENT: ("1", "true", "t", "yes", "y", "present", "positive"),
    ABSENT: ("0", "false", "f", "no", "n", "absent", "negative"),
    UNCERTAIN: ("-1", "uncertain"),
    UNKNOWN: ("unknown",),
}
"""Values that need no explanation, in lower case."""
MEANING_OF_WORD = {word: meaning for meaning, words in WORDS.items() for word in words}
PATH_LABEL = "label"
"""Column of what --label-pattern finds in paths."""
MOST_LABELS = 1000
"""A column with more different values holds no labels."""
SHOWN = 3


def findings_of(rows: pd.DataFrame, labelling: Labelling, finding: str | None) -> pd.DataFrame:
    """Return a nullable boolean column for each finding: present, absent, or missing where unknown.

    Args:
        rows: of the tables, with the label columns.
        labelling: which columns hold labels, and what their values mean.
        finding: the only one that is wanted; None for all.

    Raises:
        ConfigError: there is no such finding, or nobody has said what a value means.
        DataError: the label column holds no labels.
    """
    if labelling.label_columns:
        columns = [name for name in labelling.label_columns if finding in (None, name)]
        if not columns:
            raise ConfigError(_no_finding(str(finding), labelling.label_columns))
        return pd.DataFrame({name: finding_of_column(rows[name], labelling) for name in columns}, index=rows.index)
    name = PATH_LABEL if labelling.label_pattern else labelling.label_names[0]
    return _of_label_column(rows[name], labelling, finding)


def finding_of_column(values: pd.Series, labelling: Labelling) -> pd.Series:
    """Return what each value of a column with one finding means, as nullable booleans.

    Args:
        values: of the column, which has its name; missing where blank.
        labelling: what values mean.

    Raises:
        ConfigError: nobody has said what a value means.
    """
    name = str(values.name)
    meaning = values.map({value: _meaning(name, value, labelling.meanings) for value in values.dropna().unique()})
    meaning = meaning.astype("object").where(values.notna(), BLANK)
    strange = values[meaning.isna()]
    if len(strange):
        counts = strange.value_counts()
        raise ConfigError(
            f"column {name!r} holds {counts.index[0]!r} ({counts.iloc[0]:,} rows): say what it means with "
            f"--value '{name}:{counts.index[0]}=present' (or absent, uncertain, unknown)."
        )
    return _decided(name, meaning, values, labelling)


def _decided(name: str, meaning: pd.Series, values: pd.Series, labelling: Labelling) -> pd.Series:
    """Return meanings as nullable booleans, uncertain and blank ones as the options say."""
    uncertain, blank = meaning == UNCERTAIN, meaning == BLANK
    if uncertain.any() and labelling.uncertain is None:
        example = values[uncertain].iloc[0]
        raise ConfigError(
            f"column {name!r} holds {example} ({uncertain.sum():,} rows): say what it means with --uncertain mask, "
            "positive or negative."
        )
    if blank.any() and labelling.blank is None:
        raise ConfigError(
            f"column {name!r} is blank in {blank.sum():,} of {len(values):,} rows: say what that means with --blank "
            "negative or mask."
        )
    is_present = (meaning == PRESENT) | (uncertain & (labelling.uncertain == "positive"))
    is_absent = (meaning == ABSENT) | (uncertain & (labelling.uncertain == "negative"))
    is_absent |= blank & (labelling.blank == "negative")
    return _nullable(is_present.to_numpy(), (is_present | is_absent).to_numpy(), values.index)


def _nullable(is_present: NDArray[np.bool_], is_known: NDArray[np.bool_], index: pd.Index) -> pd.Series:
    return pd.Series(pd.arrays.BooleanArray(is_present.astype(bool), ~is_known.astype(bool)), index=index)


def _meaning(column: str, value: str, meanings: Mapping[tuple[str, str], str]) -> str | None:
    """Return present, absent, uncertain or unknown; None if nobody has said what the value means."""
    value = meanings.get((column, value), meanings.get(("*", value), value))
    with suppress(ValueError):
        value = f"{float(value):g}"
    return MEANING_OF_WORD.get(value.casefold())


def _of_label_column(values: pd.Series, labelling: Labelling, finding: str | None) -> pd.DataFrame:
    """Return the findings of a column that names them: one in each row, or several with a separator."""
    name = str(values.name)
    tokens = _tokens(values, labelling)
    tokens = tokens.map(lambda token: _renamed(name, token, labelling.meanings), na_action="ignore")
    special = pd.Series(np.where(values.isna(), BLANK, ""), index=values.index, dtype="object")
    for meaning in (UNCERTAIN, UNKNOWN):
        special[tokens.index[tokens == meaning].unique()] = meaning
    names = sorted(set(tokens.dropna()) - {ABSENT, UNCERTAIN, UNKNOWN})
    if len(names) > MOST_LABELS:
        raise DataError(
            f"column {name!r} holds {len(names):,} different labels, such as {names[0]!r}: is it the label? Give "
            "--label-column, with --separator if it holds several findings."
        )
    if finding is not None and finding not in names:
        raise ConfigError(_no_finding(finding, names))
    names = names if finding is None else [finding]
    meanings = {label: _presence(tokens, label, special) for label in names}
    return pd.DataFrame({label: _decided(name, meanings[label], values, labelling) for label in names}, values.index)


def _tokens(values: pd.Series, labelling: Labelling) -> pd.Series:
    """Return the findings that each row names, one below the other under the row's index.

    A list as Python writes it, such as `['effusion', 'normal']`, loses its brackets and quotation marks.
    """
    if labelling.separator is None:
        return values
    known = values.dropna()
    is_list = known.str.startswith("[") & known.str.endswith("]")
    plain = known.where(~is_list, known.str.slice(1, -1))
    tokens = plain.str.split(labelling.separator, regex=False).explode().str.strip(" '\"")
    return tokens[tokens != ""]


def _renamed(column: str, token: str, meanings: Mapping[tuple[str, str], str]) -> str:
    return meanings.get((column, token), meanings.get(("*", token), token))


def _presence(tokens: pd.Series, label: str, special: pd.Series) -> pd.Series:
    """Return what each row says of one finding: what it names is present, what it does not name is absent."""
    is_named = pd.Series(special.index.isin(tokens.index[tokens == label]), index=special.index)
    return special.where(special != "", ABSENT).mask(is_named, PRESENT)


def _no_finding(finding: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(finding, names, n=1, cutoff=0.5)
    known = f"nearest: {near[0]!r}" if near else f"there are {', '.join(map(repr, names[:20]))}"
    return f"--positive {finding!r} is no finding of the tables; {known}."


def single_labels(findings: pd.DataFrame, positive: str | None, *, is_class: bool) -> pd.Series:
    """Return the class of each image; missing where it is unknown.

    One finding against the rest gives two classes, `X` and `not X`. A column that holds one of two classes keeps both
    names.

    Args:
        findings: nullable booleans, one row an image.
        positive: the finding that is positive; None if each image has exactly one finding, which is its class.
        is_class: whether the findings come from a column that holds one class a row.

    Raises:
        ConfigError: the positive finding is in no table.
        DataError: an image has several findings, or none.
    """
    if positive is not None and not (is_class and len(findings.columns) == 2):
        if positive not in findings:
            raise ConfigError(_no_finding(positive, list(map(str, findings))))
        found = findings[positive]
        return found.map({True: positive, False: f"not {positive}"}).astype("str")
    is_present = findings.fillna(False).to_numpy(bool)
    n_present = is_present.sum(axis=1)
    is_unknown = findings.isna().any(axis=1).to_numpy() & (n_present == 0)
    _require_one(findings, is_present, (n_present != 1) & ~is_unknown)
    names = np.array([*findings.columns, ""], dtype=object)
    label = pd.Series(names[is_present.argmax(axis=1)], index=findings.index).astype("str")
    return label.where(~is_unknown)


def _require_one(findings: pd.DataFrame, is_present: NDArray[np.bool_], is_wrong: NDArray[np.bool_]) -> None:
    if not is_wrong.any():
        return
    first = int(is_wrong.argmax())
    names = [name for name, present in zip(findings.columns, is_present[first], strict=True) if present]
    what = f"{len(names)} findings ({', '.join(names[:SHOWN])})" if names else "none of the findings"
    raise DataError(
        f"{is_wrong.sum():,} of {len(findings):,} images have not exactly one label, such as "
        f"{str(findings.index[first])!r} with {what}: give --positive FINDING, which is then one against the rest."
    )
