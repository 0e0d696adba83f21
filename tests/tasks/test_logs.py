"""Log records of the core within a task run, whose context is made here by hand: no server is needed."""

import logging
from collections.abc import Iterator
from threading import Thread
from uuid import uuid4

import pytest
from prefect import task
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.logging import get_logger

from tasks.logs import OF_THE_CORE, core_logs

CORE = logging.getLogger("cxr.training")


@task
def work() -> None: ...


def task_run() -> TaskRunContext:
    run = TaskRun(id=uuid4(), name="work", task_key="work", dynamic_key="0")
    return TaskRunContext.model_construct(task=work, task_run=run, parameters={})


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What task runs log, which goes nowhere else: Prefect's own handler would start a server."""
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = found.append
    log = get_logger("task_runs")
    handlers, level = log.handlers, log.level
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    yield found
    log.handlers = handlers
    log.setLevel(level)


def test_records_of_the_core_become_the_task_runs_marked_and_made_harmless(records: list[logging.LogRecord]) -> None:
    with task_run() as context, core_logs():
        CORE.warning("fold %d of \x1b[31m%s", 1, "run", extra={"bar": "epochs", "done": 2, "of": 4, "other": 5})
    (record,) = records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == r"fold 1 of \x1b[31mrun"
    assert vars(record)["task_run_id"] == str(context.task_run.id)
    assert vars(record)[OF_THE_CORE] is True
    assert [vars(record)[name] for name in ("bar", "done", "of")] == ["epochs", 2, 4]
    assert "other" not in vars(record)


def test_each_task_run_gets_its_own_records_and_those_of_the_cores_threads(records: list[logging.LogRecord]) -> None:
    with task_run() as outer, core_logs():
        thread = Thread(target=lambda: CORE.info("in a thread"))  # without the context of the task run
        thread.start()
        thread.join()
        with task_run() as inner:
            CORE.info("nobody asked for this")
            with core_logs():
                CORE.info("inside")
    by_run = [(vars(record)["task_run_id"], record.getMessage()) for record in records]
    assert by_run == [(str(outer.task_run.id), "in a thread"), (str(inner.task_run.id), "inside")]


def test_afterwards_the_core_logs_as_it_did_before(
    records: list[logging.LogRecord], caplog: pytest.LogCaptureFixture
) -> None:
    core = logging.getLogger("cxr")
    handlers = list(core.handlers)

    def fail() -> None:
        with task_run(), core_logs():
            CORE.info("within")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    CORE.warning("after")
    assert core.handlers == handlers
    assert [record.getMessage() for record in records] == ["within"]
    of_core = [record.getMessage() for record in caplog.records if record.name.startswith("cxr")]
    assert of_core == ["after"], "within the block, only the task run's handlers write"
