import os
import signal
from pathlib import Path

import pytest

from cxr import store
from cxr.errors import ConfigError, RunError
from cxr.layout import RunFolder
from tests.conftest import lock_holder


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "value.json"
    store.write_json(target, {"old": True})
    with pytest.raises(TypeError):
        store.write_json(target, {"new": object()})
    assert store.read_json(target) == {"old": True}
    assert list(tmp_path.iterdir()) == [target]


def test_a_lock_names_its_living_holder_and_dies_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with lock_holder(lock, "run x") as holder:
        with pytest.raises(RunError, match=f"run x is in use by process {holder.pid} on"), store.locked(lock, "run x"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with store.locked(lock, "run x"):
        pass


@pytest.mark.parametrize("run_id", ["", "../up", "a/b", ".hidden", "x" * 81, "a\nb"])
def test_a_run_id_that_is_no_folder_name_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ConfigError, match="--run-id"):
        RunFolder.named(tmp_path, run_id)


def test_an_unknown_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run 'nowhere'"):
        RunFolder.existing("nowhere", tmp_path)
