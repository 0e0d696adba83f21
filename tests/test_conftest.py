from pathlib import Path

from tests.conftest import LONG


def test_every_long_test_module_is_there() -> None:
    stems = [path.stem for path in Path(__file__).parent.rglob("test_*.py")]
    assert [stem for stem in LONG if stems.count(stem) != 1] == []
