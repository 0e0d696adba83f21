from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from data_checks.expect import absent, all_of, between, matching, one_of, present, unique
from data_checks.suite import Table
from tests.data_checks.conftest import Failed

TABLE = Table("t", "one row per value", ("name",))
KINDS: dict[str, tuple[Callable[[], Any], list[Any], list[Any]]] = {
    "between": (lambda: between("c", "info", "s", least=0, most=1), [0, 0.5, 1, None], [0.5, 1.01]),
    "between, mostly": (lambda: between("c", "info", "s", most=1, mostly=0.5), [0, 2], [0, 2, 2]),
    "one_of": (lambda: one_of("c", "info", "s", ["a", "b"]), ["a", "a", None], ["a", "z"]),
    "one_of, mostly": (lambda: one_of("c", "info", "s", [True], mostly=0.75), [True] * 3 + [False], [True, False]),
    "all_of": (lambda: all_of("c", "info", "s", ["b", "a"]), ["a", "b", "z"], ["a", "z"]),
    "present": (lambda: present("c", "info", "s"), ["a", "b"], ["a", None]),
    "absent": (lambda: absent("c", "info", "s"), [None, None], [None, "a"]),
    "absent, mostly": (lambda: absent("c", "info", "s", mostly=0.5), [None, "a"], [None, "a", "a"]),
    "unique": (lambda: unique("c", "info", "s"), ["a", "b", None, None], ["a", "a"]),
    "matching": (lambda: matching("c", "info", "s", "^a+$"), ["a", "aaa", None], ["a", "ab"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_expectation_holds_for_what_it_asks_for_and_for_nothing_else(kind: str, failed: Failed) -> None:
    expect, good, bad = KINDS[kind]
    for values, result in ((good, set()), (bad, {("c", "info")})):
        rows = pd.DataFrame({"name": [f"r{k}" for k in range(len(values))], "c": values})
        assert failed(TABLE, rows, [expect()]) == result, values
