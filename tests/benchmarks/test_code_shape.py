import json
import sys
from pathlib import Path

import pytest

from benchmarks import code_shape
from benchmarks.code_shape import imported_modules, measure, read_modules

FILES = {
    "cxr/__init__.py": "",
    "cxr/store.py": """\
def read(path):
    return path


def write(path: str) -> None:
    def inner():
        return path

    text, size = inner(), 3
    print(text, size)
""",
    "cxr/metrics/__init__.py": "",
    "cxr/metrics/delong.py": """\
import numpy as np
from cxr import store
from cxr.metrics import curves
from . import curves as the_same
from ..store import read

TABLE = [
    1, 2,
]  # fmt: skip


class Test:
    @property
    def value(self) -> float:
        from app.models import best

        return best(np, store, curves, the_same, read)
""",
    "cxr/metrics/curves.py": "a, b = b, a = 1, 2\nc, d = divmod(7, 2)\n",
    "app/models.py": "import cxr.metrics.curves\nimport json\n",
    "scripts/ignored.py": "def f(): ...\n",
    "tests/test_store.py": "",
    "tests/metrics/test_delong.py": "",
    "tests/app/test_models.py": "",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_small_tree_has_the_shape_counted_by_hand(tree) -> None:
    shape = measure(tree)
    assert (shape.modules, shape.modules_in_largest_folder, shape.largest_folder) == (6, 3, "cxr/metrics")
    assert (shape.largest_module, shape.largest_module_lines) == ("cxr.metrics.delong", 17)
    # Lines: read 2, write 6 with the function inside it, value 4 without its decorator.
    assert (shape.functions, shape.function_lines_median, shape.function_lines_longest) == (3, 4, 6)
    assert shape.function_lines_p95 == pytest.approx(4 + 0.9 * 2)
    assert shape.longest_function == "write"
    assert shape.share_returns_annotated == pytest.approx(2 / 3)
    # Fan-out: delong 3 (store, curves, app.models), models 1, the others 0.
    assert (shape.fan_out_median, shape.fan_out_most) == (0, 3)
    assert shape.fan_out_p95 == pytest.approx(1 + 0.75 * 2)
    assert shape.share_modules_with_own_test == pytest.approx(3 / 4), "curves has none"
    assert shape.fmt_skips == 1
    # Two statements in 10 + 17 + 2 + 2 lines: `text, size = …` and `a, b = b, a = …`; divmod gives one value.
    assert shape.tuple_assignments_per_1000_lines == pytest.approx(1000 * 2 / 31)


def test_imports_are_found_whatever_their_form(tree) -> None:
    modules = {module.name: module for module in read_modules(tree)}
    assert imported_modules(modules["cxr.metrics.delong"], set(modules)) == {
        "cxr.store", "cxr.metrics.curves", "app.models",
    }  # fmt: skip
    assert imported_modules(modules["app.models"], set(modules)) == {"cxr.metrics.curves"}


def test_a_folder_without_the_project_is_refused(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no module of cxr, app"):
        measure(tmp_path)


def test_the_figures_are_printed_and_written(tree, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["code_shape", "--root", str(tree), "--json", str(tree / "shape.json")])
    code_shape.main()
    assert json.loads((tree / "shape.json").read_text())["functions"] == 3
    assert "functions                           3\n" in capsys.readouterr().out
