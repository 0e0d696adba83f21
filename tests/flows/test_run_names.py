from datetime import UTC, datetime
from typing import Any

import pytest
from prefect.runtime import flow_run

from flows.run_names import run_name, scoring_run_name

DUE = datetime(2026, 3, 4, 2, 0, 7, tzinfo=UTC)


def started(monkeypatch: pytest.MonkeyPatch, **parameters: Any) -> None:
    """Be within a flow run, in the way that Prefect's documentation describes for tests."""
    monkeypatch.setitem(flow_run.FIELDS, "parameters", lambda: parameters)
    monkeypatch.setitem(flow_run.FIELDS, "scheduled_start_time", lambda: DUE)


def test_a_scoring_run_is_listed_by_its_model_and_when_it_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, name="chest", inbox="/data/inbox")
    assert scoring_run_name() == "chest 2026-03-04 02:00"


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"run_id": "first", "data": "/data/images"}, "first"),
        ({"run_id": None, "data": "/data/chest_xray/"}, "chest_xray 2026-03-04 02:00"),
        ({"data": "kaggle"}, "kaggle 2026-03-04 02:00"),
        ({"data": "/data/archive.zip"}, "archive.zip 2026-03-04 02:00"),
    ],
)
def test_a_run_is_listed_by_its_id_or_else_by_its_data(
    monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any], name: str
) -> None:
    started(monkeypatch, **parameters)
    assert run_name() == name
