"""What a data check found: plain records, without Great Expectations."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
"""The severities, worst first."""

_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
"""A content hash; the first 12 digits are enough for a person."""


@dataclass(frozen=True)
class Finding:
    """What one expectation found in a table."""

    expectation: str
    """Great Expectations' name for it, in snake case."""
    column: str | None
    severity: Severity
    passed: bool
    sentence: str
    """What is expected, in plain English."""
    n_rows: int
    """Rows checked: those that have a value in the column."""
    n_unexpected: int
    """Rows that break the expectation."""
    unexpected: list[dict[str, Any]]
    """The first of these rows: the columns that name the row, and `value`."""

    def examples(self, n_rows: int) -> str:
        """Return the first `n_rows` offending rows as text, followed by the number of remaining ones."""
        names = [_describe(row) for row in self.unexpected[:n_rows]]
        n_more = self.n_unexpected - len(names)
        return ", ".join(names) + (f" and {n_more:,} more" if n_more > 0 and names else "")


@dataclass(frozen=True)
class Verdict:
    """What a suite of expectations found in a table."""

    table: str
    grain: str
    """What one row of the table stands for."""
    highest_failed: Severity | None
    """The worst severity among the failed expectations; None if all passed."""
    findings: list[Finding]

    def failed(self, severity: Severity) -> list[Finding]:
        """Return the findings of this severity that failed."""
        return [finding for finding in self.findings if finding.severity == severity and not finding.passed]

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Verdict":
        """Return the verdict that `as_dict` turned into plain values."""
        findings = [Finding(**finding) for finding in values["findings"]]
        return cls(values["table"], values["grain"], values["highest_failed"], findings)


def _describe(row: dict[str, Any]) -> str:
    """Return the values that name a row, then the offending value in brackets unless it is one of them."""
    names = [_HASH.sub(r"\1…", str(value)) for name, value in row.items() if name != "value" and value is not None]
    value = format_value(row.get("value"))
    if not names:
        return value
    return " ".join(names) + (f" ({value})" if value and value not in names else "")


def format_value(value: Any) -> str:
    """Return an offending value as text; empty for None and for booleans, which add nothing to the sentence."""
    if value is None or isinstance(value, bool):
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
