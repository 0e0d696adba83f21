from pathlib import Path

from tests.conftest import LONG


def test_every_long_test_module_is_there() -> None:
    assert [name for name in LONG if not (Path(__file__).parent / f"{name}.py").is_file()] == []
