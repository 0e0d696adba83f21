"""The shape of the code: how long and how entangled it is, counted from the syntax tree alone.

    python -m benchmarks.code_shape [--root DIR] [--json FILE]

Nothing is imported, so the script also measures another checkout. A function runs from its `def` line to its last
line; a function inside another one counts as part of the outer one, not on its own.
"""

import argparse
import ast
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PACKAGES = ("cxr", "app", "flows", "tasks", "data_checks", "deployments")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A module of the project."""

    name: str
    """Dotted, a package by its own name: `cxr`, `cxr.metrics.delong`."""
    path: Path
    """Relative to the project's root."""
    text: str
    tree: ast.Module

    @property
    def n_lines(self) -> int:
        """How many lines the file has, blank ones and comments included."""
        return len(self.text.splitlines())


@dataclass(frozen=True)
class Shape:
    """What is measured; lengths in lines, shares between 0 and 1, NaN where there is nothing to measure."""

    modules: int
    modules_in_largest_folder: int
    largest_folder: str
    largest_module_lines: int
    largest_module: str
    functions: int
    function_lines_median: float
    function_lines_p95: float
    function_lines_longest: int
    longest_function: str
    share_returns_annotated: float
    fan_out_median: float
    fan_out_p95: float
    fan_out_most: int
    share_modules_with_own_test: float
    fmt_skips: int
    tuple_assignments_per_1000_lines: float


def main() -> None:
    """Measure a checkout and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(), help="checkout to measure (default: this folder)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    figures = dataclasses.asdict(measure(arguments.root))
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):<36}{round(value, 3) if isinstance(value, float) else value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(root: Path) -> Shape:
    """Return the shape of the project in a folder.

    Raises:
        FileNotFoundError: the folder has none of the project's packages.
    """
    modules = read_modules(root)
    if not modules:
        raise FileNotFoundError(f"no module of {', '.join(PACKAGES)} in {root.resolve()}.")
    folder, n_in_folder = Counter(module.path.parent.as_posix() for module in modules).most_common(1)[0]
    largest = max(modules, key=lambda module: module.n_lines)
    functions = [function for module in modules for function in outer_functions(module.tree)]
    n_lines = [_length(function) for function in functions]
    names = {module.name for module in modules}
    fan_out = [len(imported_modules(module, names)) for module in modules]
    testable = [module for module in modules if module.path.stem not in ("__init__", "__main__")]
    n_tuples = sum(_is_tuple_assignment(node) for module in modules for node in ast.walk(module.tree))
    return Shape(
        modules=len(modules),
        modules_in_largest_folder=n_in_folder,
        largest_folder=folder,
        largest_module_lines=largest.n_lines,
        largest_module=largest.name,
        functions=len(functions),
        function_lines_median=_percentile(n_lines, 50),
        function_lines_p95=_percentile(n_lines, 95),
        function_lines_longest=max(n_lines, default=0),
        longest_function=functions[int(np.argmax(n_lines))].name if functions else "",
        share_returns_annotated=_mean([function.returns is not None for function in functions]),
        fan_out_median=_percentile(fan_out, 50),
        fan_out_p95=_percentile(fan_out, 95),
        fan_out_most=max(fan_out),
        share_modules_with_own_test=_mean([has_own_test(module, root) for module in testable]),
        fmt_skips=sum(module.text.count("# fmt: skip") for module in modules),
        tuple_assignments_per_1000_lines=1000 * n_tuples / sum(module.n_lines for module in modules),
    )


def read_modules(root: Path) -> list[Module]:
    """Return the modules of the project's packages, at whatever depth, by path."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    return [_read_module(path, root) for path in paths]


def _read_module(path: Path, root: Path) -> Module:
    relative = path.relative_to(root)
    text = path.read_text(encoding="utf-8")
    parts = relative.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, relative, text, ast.parse(text, filename=str(relative)))


def imported_modules(module: Module, names: set[str]) -> set[str]:
    """Return the other modules of the project that a module imports, inside functions too.

    Args:
        module: the module that imports.
        names: every module of the project. `from a import b` imports `a.b` where that is a module, else `a`.
    """
    imported = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            imported |= {_known(alias.name, names) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, module)
            imported |= {_known(f"{origin}.{alias.name}", names) for alias in node.names}
    return imported - {None, module.name}


def _origin(node: ast.ImportFrom, module: Module) -> str:
    """Return the dotted name after `from`, a relative one made absolute."""
    if not node.level:
        return node.module or ""
    package = module.path.parent.parts[: len(module.path.parent.parts) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def _known(name: str, names: set[str]) -> str | None:
    """Return the innermost module that a dotted name leads to, None outside the project."""
    while name not in names and "." in name:
        name = name.rpartition(".")[0]
    return name if name in names else None


def has_own_test(module: Module, root: Path) -> bool:
    """Return whether a test file is named after a module.

    `cxr/metrics/delong.py` has `tests/metrics/test_delong.py`, `app/models.py` has `tests/app/test_models.py`; a flat
    `tests/test_delong.py` counts too, for every module of that name.
    """
    package, *folders = module.path.parent.parts
    within = folders if package == "cxr" else [package, *folders]
    tests = root / "tests"
    test = f"test_{module.path.stem}.py"
    return (tests / test).exists() or tests.joinpath(*within, test).exists()


def outer_functions(tree: ast.AST) -> Iterator[Function]:
    """Yield the functions and methods of a module, but not those inside other functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node
        else:
            yield from outer_functions(node)


def _length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _is_tuple_assignment(node: ast.AST) -> bool:
    """Return whether a statement binds several names to as many values side by side: `a, b = x, y`."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    return any(isinstance(target, ast.Tuple) for target in node.targets)


def _percentile(values: list[int], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else float("nan")


def _mean(values: list[bool]) -> float:
    return float(np.mean(values)) if values else float("nan")


if __name__ == "__main__":
    main()
