"""Commands and settings of the files in `deployments/`, held against the programs that they are for."""

from collections.abc import Iterable

import pytest
from cyclopts import App, CycloptsError
from prefect.cli._app import _app as prefect
from prefect.settings import Settings
from prefect.settings.legacy import _get_valid_setting_names

from deployments.services import CPU_POOL, GPU_POOL
from flows.cli import app as cxr
from tests.support.processes import BIN

PARSERS: dict[str, App] = {"cxr": cxr, "prefect": prefect}


def assert_is_understood(program: str, *words: str) -> None:
    """The program is installed with the project, and has the command with each of its options; pools are ours."""
    assert (BIN / program).exists()
    try:
        PARSERS[program].parse_args(words, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        pytest.fail(f"{program} {' '.join(words)}: {error}")
    if "--pool" in words:
        assert words[words.index("--pool") + 1] in (CPU_POOL, GPU_POOL)


def assert_are_settings(names: Iterable[str]) -> None:
    """Prefect, or its integration with Redis, has each setting whose name begins with PREFECT_."""
    known = _get_valid_setting_names(Settings) | {"PREFECT_REDIS_MESSAGING_URL"}
    assert {name for name in names if name.startswith("PREFECT_")} <= known
