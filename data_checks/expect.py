"""The expectations that the suites are written in: Great Expectations' own, with a severity and a sentence.

`column` missing in a row means that the expectation does not apply to it, as Great Expectations skips
missing values; only `present` asks for a value.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from cxr.verdict import Severity

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation


def between(
    column: str,
    severity: Severity,
    sentence: str,
    *,
    least: float | None = None,
    most: float | None = None,
    mostly: float = 1.0,
) -> "Expectation":
    """Expect values from `least` to `most`, in a share of `mostly` of the rows at least."""
    bounds = {"min_value": least, "max_value": most, "mostly": mostly}
    return _expectation("ColumnValuesToBeBetween", severity, sentence, column=column, **bounds)


def one_of(
    column: str, severity: Severity, sentence: str, values: Collection[Any], *, mostly: float = 1.0
) -> "Expectation":
    """Expect a value to be one of `values`, in a share of `mostly` of the rows at least."""
    given = {"value_set": list(values), "mostly": mostly}
    return _expectation("ColumnValuesToBeInSet", severity, sentence, column=column, **given)


def all_of(column: str, severity: Severity, sentence: str, values: Collection[Any]) -> "Expectation":
    """Expect each of `values` to occur."""
    kind = "ColumnDistinctValuesToContainSet"
    return _expectation(kind, severity, sentence, column=column, value_set=sorted(values))


def present(column: str, severity: Severity, sentence: str) -> "Expectation":
    """Expect a value in each row."""
    return _expectation("ColumnValuesToNotBeNull", severity, sentence, column=column)


def absent(column: str, severity: Severity, sentence: str, *, mostly: float = 1.0) -> "Expectation":
    """Expect no value, in a share of `mostly` of the rows at least."""
    return _expectation("ColumnValuesToBeNull", severity, sentence, column=column, mostly=mostly)


def unique(column: str, severity: Severity, sentence: str) -> "Expectation":
    """Expect no value twice."""
    return _expectation("ColumnValuesToBeUnique", severity, sentence, column=column)


def matching(column: str, severity: Severity, sentence: str, pattern: str) -> "Expectation":
    """Expect each value to match a regular expression."""
    return _expectation("ColumnValuesToMatchRegex", severity, sentence, column=column, regex=pattern)


def _expectation(kind: str, severity: Severity, sentence: str, **arguments: Any) -> "Expectation":
    from great_expectations import expectations

    return getattr(expectations, f"Expect{kind}")(severity=severity, meta={"sentence": sentence}, **arguments)
