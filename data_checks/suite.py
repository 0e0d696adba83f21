"""One suite against one table: Great Expectations judges, a verdict tells it in sentences.

`success` of a suite is False whatever the severity of what failed, so the gate asks for the highest
severity that failed: critical stops, warning is shown, info counts.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr.verdict import SEVERITIES, Finding, Verdict

if TYPE_CHECKING:
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext
    from great_expectations.expectations.expectation import Expectation

MAX_NAMED = 1000
"""Offending rows that a verdict names; all are counted."""


def open_context(data_docs: Path | None = None) -> "EphemeralDataContext":
    """Return a Great Expectations context that lives in memory and sends nothing home.

    Args:
        data_docs: folder for Great Expectations' own pages, written by `build_data_docs`; None for none.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the package is imported
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)  # has its own
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = {"globally": False}  # pyright: ignore[reportAttributeAccessIssue]
    for site in list(context.get_site_names()):
        context.delete_data_docs_site(site)
    if data_docs is not None:
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(data_docs.resolve())}
        index = {"class_name": "DefaultSiteIndexBuilder"}
        context.add_data_docs_site(
            "local", {"class_name": "SiteBuilder", "store_backend": backend, "site_index_builder": index}
        )
    return context


def judge(
    context: "EphemeralDataContext",
    table: str,
    grain: str,
    rows: pd.DataFrame,
    names: Sequence[str],
    expectations: Sequence["Expectation"],
) -> Verdict:
    """Return the verdict of the expectations on a table.

    Args:
        grain: what one row stands for.
        names: columns that name a row to a person.
        expectations: each with a severity and a sentence, as `data_checks.expect` makes them.
    """
    import great_expectations as gx

    asset = context.data_sources.add_pandas(table).add_dataframe_asset(table)
    suite = context.suites.add(gx.ExpectationSuite(name=table, expectations=list(expectations)))
    batch = asset.add_batch_definition_whole_dataframe("all")
    definition = gx.ValidationDefinition(name=table, data=batch, suite=suite)
    result = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": rows},
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": list(names)},
    )
    worst = result.get_max_severity_failure()
    findings = [_finding(one, names, len(rows)) for one in result.results]
    order = {id(f): (SEVERITIES.index(f.severity), f.passed) for f in findings}
    return Verdict(table, grain, worst.value if worst else None, sorted(findings, key=lambda f: order[id(f)]))


def _finding(one: "ExpectationValidationResult", names: Sequence[str], n_rows: int) -> Finding:
    config = one.expectation_config
    assert config is not None  # noqa: S101 results of a suite carry their expectation
    column, result = config.kwargs.get("column"), one.result or {}
    offending = result.get("unexpected_index_list") or []
    missing = result.get("partial_missing_list") or []
    broken = next((info["exception_message"] for info in _exceptions(one)), None)
    named = [{name: _plain(row.get(name)) for name in names} | {"value": _plain(row.get(column))} for row in offending]
    named += [{"value": _plain(value)} for value in missing] + ([{"value": broken}] if broken else [])
    return Finding(
        expectation=config.type,
        column=column,
        severity=config.severity.value,
        passed=bool(one.success),
        sentence=(config.meta or {})["sentence"],
        n_rows=int(result.get("element_count", n_rows)) - int(result.get("missing_count", 0)),
        n_unexpected=int(result.get("unexpected_count", len(named))) or len(named),
        unexpected=named[:MAX_NAMED],
    )


def _exceptions(one: "ExpectationValidationResult") -> list[dict[str, Any]]:
    infos = (one.exception_info or {}).values()
    return [info for info in infos if isinstance(info, dict) and info.get("raised_exception")]


def _plain(value: Any) -> Any:
    if value is None or pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value
