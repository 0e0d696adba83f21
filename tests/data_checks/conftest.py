"""What the tests of all suites share."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pytest

from data_checks.suite import Table, open_context, run_suite

Failed = Callable[[Table, pd.DataFrame, Sequence[Any]], set[tuple[str | None, str]]]


@pytest.fixture
def failed() -> Failed:
    """Run a suite and return column and severity of each expectation that failed: failed(TABLE, rows, expectations)."""

    def run(table: Table, rows: pd.DataFrame, expectations: Sequence[Any]) -> set[tuple[str | None, str]]:
        verdict = run_suite(open_context(), table, rows, expectations)
        return {(finding.column, finding.severity) for finding in verdict.findings if not finding.passed}

    return run
