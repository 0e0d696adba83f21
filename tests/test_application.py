"""The application is found beside the core or within it, ahead of anybody else's packages of the same names."""

import gc
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cxr
from cxr import application
from tests.support.processes import PROJECT, somebody_elses_packages


def test_it_lies_beside_the_core_in_a_checkout_and_within_it_in_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (application.folder(), application.is_carried()) == (PROJECT, False)
    carried = tmp_path / "cxr" / application.CARRIED
    carried.mkdir(parents=True)
    monkeypatch.setattr(cxr, "__file__", str(tmp_path / "cxr" / "__init__.py"))
    assert (application.folder(), application.is_carried()) == (carried, True)


def test_prefect_finds_the_flows_ahead_of_somebody_elses_packages(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": somebody_elses_packages(tmp_path)}
    code = (
        "from cxr.application import FLOWS\n"
        "from prefect.flows import load_flow_from_entrypoint\n"
        "print(*(load_flow_from_entrypoint(f'cxr.application.{name}').name for name in FLOWS))"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path / "somebody-elses",  # Prefect puts a run's folder first on the path
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    names = ["train-cv", "train-fold", "validate-dataset", "score-batch", "feedback", "retrain"]
    assert ended.stdout.split() == names, ended.stderr


def test_it_has_no_attribute_besides() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        _ = application.train


@pytest.mark.parametrize("to_stay", [True, False])
def test_garbage_is_not_searched_for_during_a_quick_import_nor_later_among_what_is_to_stay(
    to_stay: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"imported_{to_stay}.py").write_text("import gc\nwas_searched_for = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    frozen = gc.get_freeze_count()
    with application.quick_imports(to_stay=to_stay):
        imported = importlib.import_module(f"imported_{to_stay}")
    assert not imported.was_searched_for
    assert gc.isenabled()
    assert ((found := gc.get_freeze_count()) > frozen) == to_stay
    with application.quick_imports(to_stay=to_stay):
        importlib.import_module(f"imported_{to_stay}")
    assert gc.get_freeze_count() <= found, "nothing was imported: garbage that is there now can still be found"


def test_garbage_is_searched_for_again_after_an_import_that_failed_unless_it_was_not_before() -> None:
    for was_enabled in (True, False):
        (gc.enable if was_enabled else gc.disable)()
        try:
            with pytest.raises(ModuleNotFoundError), application.quick_imports():
                importlib.import_module("there_is_no_such_module")
            assert gc.isenabled() == was_enabled
        finally:
            gc.enable()
