"""Run one suite of expectations on one table with Great Expectations, and return a verdict.

Great Expectations reports a suite as failed whatever the severity of the failure, so a verdict keeps the highest
severity that failed: critical stops, a warning is shown, info is only counted.
"""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr.application import quick_imports
from cxr.verdict import SEVERITIES, Finding, Verdict
from cxr.wording import visible

if TYPE_CHECKING:
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext
    from great_expectations.expectations.expectation import Expectation

MAX_NAMED = 1000
"""Most offending rows that a finding names; it counts them all."""
FULL_WIDTH = {ord(mark): ord(mark) + 0xFEE0 for mark in "<>&\"'"}
"""For each mark of HTML the letter of Unicode that looks like it."""


@dataclass(frozen=True)
class Table:
    """A table that a suite checks."""

    name: str
    grain: str
    """What one row stands for."""
    row_name: tuple[str, ...]
    """Columns that name a row to a person."""


def open_context(data_docs: Path | None = None) -> "EphemeralDataContext":
    """Return a Great Expectations context that lives in memory and sends no usage statistics.

    Args:
        data_docs: folder for the pages that `build_pages` writes; None for no pages.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the package is imported
    with quick_imports(to_stay=True):
        import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)  # sets its own level
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = {"globally": False}  # pyright: ignore[reportAttributeAccessIssue]
    for site in list(context.get_site_names()):
        context.delete_data_docs_site(site)
    if data_docs is not None:
        place = str(data_docs.resolve()).replace("$", "\\$")  # otherwise the name of a variable follows
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": place}
        index = {"class_name": "DefaultSiteIndexBuilder"}
        context.add_data_docs_site(
            "local", {"class_name": "SiteBuilder", "store_backend": backend, "site_index_builder": index}
        )
    return context


def build_pages(context: "EphemeralDataContext") -> None:
    """Write Great Expectations' own pages of all suites that were run, with foreign names made harmless.

    Its templates escape some values and take others as HTML. What is HTML's of a name is therefore replaced before by
    letters that look alike, which nothing takes for markup, however often it is escaped or not.

    Args:
        context: from `open_context`, with a folder for the pages; no suite can be run in it after that.
    """
    for store in (context.expectations_store, context.validation_results_store):
        for key in map(store.key_to_tuple, store.list_keys()):
            content = json.loads(str(store.store_backend.get(key)))
            store.store_backend.set(key, json.dumps(_harmless(content)))
    context.build_data_docs()


def _harmless(content: Any) -> Any:
    """Return what JSON holds, with each text in it on one line and without HTML's marks."""
    if isinstance(content, str):
        return visible(content).translate(FULL_WIDTH)
    if isinstance(content, list):
        return [_harmless(part) for part in content]
    if isinstance(content, dict):
        return {_harmless(name): _harmless(part) for name, part in content.items()}
    return content


def run_suite(
    context: "EphemeralDataContext", table: Table, rows: pd.DataFrame, expectations: Sequence["Expectation"]
) -> Verdict:
    """Return the verdict of the expectations on the rows; findings are sorted by severity, failed ones first.

    Args:
        context: from `open_context`; takes one suite per table.
        table: the table that the rows belong to.
        rows: the table's rows, with the columns that the expectations ask about.
        expectations: each with a severity and a sentence, as `data_checks.expect` makes them.
    """
    import great_expectations as gx

    asset = context.data_sources.add_pandas(table.name).add_dataframe_asset(table.name)
    suite = context.suites.add(gx.ExpectationSuite(name=table.name, expectations=list(expectations)))
    batch = asset.add_batch_definition_whole_dataframe("all")
    definition = gx.ValidationDefinition(name=table.name, data=batch, suite=suite)
    result = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": rows},
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": list(table.row_name)},
    )
    worst = result.get_max_severity_failure()
    findings = [_finding(expectation, table, len(rows)) for expectation in result.results]
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), finding.passed))
    return Verdict(table.name, table.grain, worst.value if worst else None, findings)


def _finding(validation: "ExpectationValidationResult", table: Table, n_rows: int) -> Finding:
    config = validation.expectation_config
    assert config is not None  # noqa: S101 results of a suite carry their expectation
    column = config.kwargs.get("column")
    result = validation.result or {}
    unexpected = _unexpected_rows(validation, table, column)
    return Finding(
        expectation=config.type,
        column=column,
        severity=config.severity.value,
        passed=bool(validation.success),
        sentence=(config.meta or {})["sentence"],
        n_rows=int(result.get("element_count", n_rows)) - int(result.get("missing_count", 0)),
        n_unexpected=int(result.get("unexpected_count", len(unexpected))) or len(unexpected),
        unexpected=unexpected[:MAX_NAMED],
    )


def _unexpected_rows(
    validation: "ExpectationValidationResult", table: Table, column: str | None
) -> list[dict[str, Any]]:
    """Return what breaks the expectation: rows by their name, values that do not occur, or why it could not be run."""
    result = validation.result or {}
    rows = [
        {name: _plain(row.get(name)) for name in table.row_name} | {"value": _plain(row.get(column))}
        for row in result.get("unexpected_index_list") or []
    ]
    absent_values = [{"value": _plain(value)} for value in result.get("partial_missing_list") or []]
    exceptions = [
        {"value": info["exception_message"]}
        for info in (validation.exception_info or {}).values()
        if isinstance(info, dict) and info.get("raised_exception")
    ]
    return rows + absent_values + exceptions[:1]


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it; None where it is missing."""
    if value is None or pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value
