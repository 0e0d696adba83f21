"""Great Expectations' expectations, each with a severity and a sentence in plain English.

Great Expectations skips missing values, so an expectation does not apply to a row whose `column` is missing. Only
`present` asks for a value.
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
    """Expect values from `least` to `most`, both included, in at least the share `mostly` of the rows."""
    bounds = {"min_value": least, "max_value": most, "mostly": mostly}
    return _expectation("ColumnValuesToBeBetween", severity, sentence, column=column, **bounds)


def one_of(
    column: str, severity: Severity, sentence: str, values: Collection[Any], *, mostly: float = 1.0
) -> "Expectation":
    """Expect values to be among `values`, in at least the share `mostly` of the rows."""
    arguments = {"value_set": list(values), "mostly": mostly}
    return _expectation("ColumnValuesToBeInSet", severity, sentence, column=column, **arguments)


def all_of(column: str, severity: Severity, sentence: str, values: Collection[Any]) -> "Expectation":
    """Expect each of `values` to occur in at least one row."""
    kind = "ColumnDistinctValuesToContainSet"
    return _expectation(kind, severity, sentence, column=column, value_set=sorted(values))


def present(column: str, severity: Severity, sentence: str) -> "Expectation":
    """Expect a value in every row."""
    return _expectation("ColumnValuesToNotBeNull", severity, sentence, column=column)


def absent(column: str, severity: Severity, sentence: str, *, mostly: float = 1.0) -> "Expectation":
    """Expect no value, in at least the share `mostly` of the rows."""
    return _expectation("ColumnValuesToBeNull", severity, sentence, column=column, mostly=mostly)


def unique(column: str, severity: Severity, sentence: str) -> "Expectation":
    """Expect every value to be unique."""
    return _expectation("ColumnValuesToBeUnique", severity, sentence, column=column)


def matching(column: str, severity: Severity, sentence: str, pattern: str) -> "Expectation":
    """Expect every value to match the regular expression `pattern`."""
    return _expectation("ColumnValuesToMatchRegex", severity, sentence, column=column, regex=pattern)


def _expectation(kind: str, severity: Severity, sentence: str, **arguments: Any) -> "Expectation":
    from great_expectations import expectations

    return getattr(expectations, f"Expect{kind}")(severity=severity, meta={"sentence": sentence}, **arguments)
