import os
import signal
import struct
from pathlib import Path

import pandas as pd
import pytest

from cxr.errors import ConfigError, DamagedError, RunError
from cxr.storage import files
from cxr.storage.run_folder import RunFolder
from tests.conftest import lock_holder


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "value.json"
    files.write_json(target, {"old": True})

    def stopped_half_way() -> None:
        with files.replacing(target) as temporary:
            temporary.write_text('{"half":')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_half_way()
    assert files.read_json(target) == {"old": True}
    assert list(tmp_path.iterdir()) == [target]


def test_a_lock_names_its_living_holder_and_dies_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with lock_holder(lock, "run x") as holder:
        with pytest.raises(RunError, match=f"run x is in use by process {holder.pid} on"), files.locked(lock, "run x"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with files.locked(lock, "run x"):
        pass


def test_changed_bytes_of_a_table_and_half_a_json_file_are_told(tmp_path: Path) -> None:
    table, facts = tmp_path / "table.parquet", tmp_path / "facts.json"
    files.write_table(table, pd.DataFrame({"value": [1.0]}))
    data = bytearray(table.read_bytes())
    data[data.index(struct.pack("<d", 1.0))] ^= 1
    table.write_bytes(data)
    facts.write_text('{"half":')
    with pytest.raises(DamagedError, match=r"table\.parquet' is damaged"):
        files.read_table(table)
    with pytest.raises(DamagedError, match=r"facts\.json' is damaged"):
        files.read_json(facts)


@pytest.mark.parametrize("run_id", ["", "../up", "a/b", ".hidden", "x" * 81, "a\nb"])
def test_a_run_id_that_is_no_folder_name_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ConfigError, match="--run-id"):
        RunFolder.named(tmp_path, run_id)


def test_an_unknown_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run 'nowhere'"):
        RunFolder.existing("nowhere", tmp_path)
