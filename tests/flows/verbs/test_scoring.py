import shutil
from pathlib import Path

import pytest

from flows.cli import app
from tests.support.images import draw_negatives


def test_the_exit_code_says_whether_a_batch_is_held(
    home: Path, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "ward").mkdir(parents=True)
    options = ["--name=tiny", "--settle=0", f"--models={home / 'models'}", f"--cache={home / 'cache'}"]
    command = ["score", str(inbox), *options, f"--out={tmp_path / 'scores'}"]
    with pytest.raises(SystemExit) as ended:
        app(command)
    assert ended.value.code == 0, "there is nothing to score"
    shutil.rmtree(inbox / "ward")
    draw_negatives(scored.parent / "inbox" / "ward-3", inbox / "ward")
    with pytest.raises(SystemExit) as ended:
        app(command)
    assert ended.value.code == 1
    assert "held" in capsys.readouterr().out
