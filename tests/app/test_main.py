"""The whole page, run by Streamlit's AppTest."""

import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import main
from app.server import Folders
from cxr.wording import DISCLAIMER
from tests.app.support import opened


@pytest.mark.parametrize("module", list(main.ICONS))
def test_a_view_without_anything_to_show_says_what_to_do_first(module: str, tmp_path: Path) -> None:
    view = opened(module, Folders(*(tmp_path / name for name in ("experiments", "models", "scores", "cache"))))
    assert "`cxr demo`" in view.info[0].value
    assert not list(tmp_path.iterdir())


def test_the_page_opens_with_the_disclaimer_and_the_first_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py"])
    page = AppTest.from_file(main.__file__, default_timeout=60).run()
    assert not page.exception
    assert page.warning[0].value == DISCLAIMER
    assert page.title[0].value == "Classify"
    assert not page.markdown, "Streamlit shows a string that stands alone in the script"


def test_the_icon_is_drawn_and_not_fetched() -> None:
    assert main.draw_icon().size == (64, 64)


def test_the_page_needs_no_prefect_and_no_great_expectations() -> None:
    code = "import sys; sys.modules['prefect'] = sys.modules['great_expectations'] = None\n"
    code += "import app.classify.view, app.runs.view, app.scoring_runs.view, app.models.view, app.server"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
