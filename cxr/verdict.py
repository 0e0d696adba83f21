"""What a data check found: findings, verdicts, and how they are said to a person."""

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    pass


Severity = Literal["critical", "warning", "info"]


SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")


HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
"""A content hash, of which a person reads the beginning."""


@dataclass(frozen=True)
class Finding:
    """What one expectation found."""

    expectation: str
    column: str | None
    severity: Severity
    passed: bool
    sentence: str
    """What is expected, as a person would say it."""
    n_rows: int
    """Rows judged: those where the column has a value."""
    n_unexpected: int
    unexpected: list[dict[str, Any]]
    """The first offending rows: what names them, and `value`."""

    def examples(self, n_rows: int) -> str:
        """Return the first offending rows in words, and how many there are besides."""
        named = [_name(row) for row in self.unexpected[:n_rows]]
        more = self.n_unexpected - len(named)
        return ", ".join(named) + (f" and {more:,} more" if more > 0 and named else "")


@dataclass(frozen=True)
class Verdict:
    """What a suite found about a table."""

    table: str
    grain: str
    highest_failed: Severity | None
    findings: list[Finding]

    def failed(self, severity: Severity) -> list[Finding]:
        """Return the findings of this severity that failed."""
        return [finding for finding in self.findings if finding.severity == severity and not finding.passed]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Verdict":
        """Return the verdict that `as_dict` described."""
        findings = [Finding(**finding) for finding in values["findings"]]
        return cls(values["table"], values["grain"], values["highest_failed"], findings)


def _name(row: dict[str, Any]) -> str:
    words = [HASH.sub(r"\1…", str(value)) for name, value in row.items() if name != "value" and value is not None]
    value = say(row.get("value"))
    return (" ".join(words) + (f" ({value})" if value and value not in words else "")) if words else value


def say(value: Any) -> str:
    """Return a value as a person would write it; nothing for what says nothing, such as a bare False."""
    if value is None or isinstance(value, bool):
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
