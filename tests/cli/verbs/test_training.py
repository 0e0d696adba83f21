import json
from pathlib import Path

import pytest

from cxr.cli.main import app
from cxr.cli.verbs.training import require_possible
from cxr.config import DataConfig, Execution, RunLocation
from cxr.errors import CxrError
from cxr.recipe import PRESETS
from tests.support.runs import small_config


@pytest.mark.parametrize("weights", ["imagenet-v1", "none"])
def test_presets_are_shown_with_the_value_of_each_option(weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    app(["presets", f"--weights={weights}", "--json"])
    rows = json.loads(capsys.readouterr().out)
    for name, options in PRESETS.items():
        assert {row["option"]: row[name] for row in rows} == options(weights)


def test_a_mistake_is_found_before_anything_is_written(sample: Path, tmp_path: Path) -> None:
    location = Execution(experiments=tmp_path / "experiments", cache=tmp_path / "cache", devices="cuda:99")
    for config, sentence in (
        (DataConfig(data=str(tmp_path / "nowhere")), "does not exist"),
        (DataConfig(data=str(sample), positive="COVID"), "--positive must name one of the classes"),
        (small_config(sample), "device 'cuda:99' does not exist"),
    ):
        with pytest.raises(CxrError, match=sentence):
            require_possible(config, location)
    assert not list(tmp_path.iterdir())


def test_data_that_can_be_examined_are_possible_whatever_trains_on_them(sample: Path, tmp_path: Path) -> None:
    require_possible(DataConfig(data=str(sample)), RunLocation(experiments=tmp_path, cache=tmp_path))
