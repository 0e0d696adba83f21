import shutil
from pathlib import Path

import pytest

from cxr.config import DicomNode, ScoreConfig
from cxr.dicom_results import results
from cxr.dicom_results.results import require_possible, write_and_send
from cxr.errors import ConfigError, NodeError, RunError
from cxr.serving.scoring.scoring_runs import ScoringRun
from flows.cli import app as cli
from tests.support.dicom import NAMES, find_instances
from tests.support.processes import lock_holder
from tests.support.scoring import table


def test_where_other_files_are_no_results_are_written(tmp_path: Path) -> None:
    config = ScoreConfig(name="m", out=tmp_path / "scores", dicom_out=tmp_path / "inbox" / "results")
    with pytest.raises(ConfigError, match="is inside the inbox"):
        require_possible(tmp_path / "inbox", config)
    config = ScoreConfig(name="m", out=tmp_path / "scores", dicom_out=tmp_path / "scores")
    with pytest.raises(ConfigError, match="is inside --out"):
        require_possible(tmp_path / "inbox", config)
    require_possible(tmp_path / "inbox", ScoreConfig(name="m", dicom_out=tmp_path / "results"))


def test_the_inbox_of_dicom_results_has_to_be_a_folder(tmp_path: Path) -> None:
    config = ScoreConfig(name="m", dicom_out=tmp_path / "results")
    with pytest.raises(ConfigError, match="the inbox of --dicom-out needs a folder of files, got 's3://bucket/inbox'"):
        require_possible(Path("s3://bucket/inbox"), config)
    require_possible(tmp_path / "inbox", ScoreConfig(name="m"))


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "NEEDED", ("highdicom", "a_package_that_is_not_there"))
    with pytest.raises(ConfigError, match=r"install cxr with the extra \[dicom-out\]"):
        require_possible(tmp_path, ScoreConfig(name="m", dicom_out=tmp_path / "results"))


@pytest.mark.parametrize(
    "address", ["PACS", "PACS@host", "@host:104", "PACS@:104", "PACS@host:0", "PACS@host:65536", "P\\ACS@host:104"]
)
def test_what_is_no_address_of_a_node_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="--dicom-to must be AETITLE@HOST:PORT"):
        ScoreConfig(name="m", dicom_out=Path("results"), dicom_to=address)


def test_an_address_has_a_title_a_host_and_a_port() -> None:
    assert DicomNode.parse("MY PACS@pacs.example:104") == DicomNode("MY PACS", "pacs.example", 104)
    assert DicomNode.parse("A@B@[::1]:11112") == DicomNode("A@B", "::1", 11112)


def test_nothing_is_sent_that_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --dicom-out FOLDER too"):
        ScoreConfig(name="m", dicom_to="PACS@host:104")
    with pytest.raises(ConfigError, match="--dicom-as must have 1 to 16 ASCII characters"):
        ScoreConfig(name="m", dicom_as="a title that is too long")


def unstarted(place: Path, dicom_out: Path | None) -> ScoringRun:
    """A scoring run of an inbox, without a model."""
    config = ScoreConfig(name="tiny", out=place / "scores", dicom_out=dicom_out)
    return ScoringRun(place / "inbox", config, "tiny", "1", "now", n_images=0)


def test_without_the_option_nothing_is_written(tmp_path: Path) -> None:
    write_and_send(unstarted(tmp_path, None))
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    results = tmp_path / "results"
    with lock_holder(results / "_work" / "dicom.lock", "it"), pytest.raises(RunError, match="is in use"):
        write_and_send(unstarted(tmp_path, results))


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # pynetdicom leaves a refused socket to the collector
def test_a_node_that_is_down_costs_neither_scores_nor_results(
    home: Path, dicom_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox = Path(shutil.copytree(dicom_results.parent / "inbox", tmp_path / "inbox"))
    places = [f"--models={home / 'models'}", f"--cache={home / 'cache'}", f"--out={tmp_path / 'scores'}"]
    words = ["--settle=0", "--force", f"--dicom-out={tmp_path / 'results'}", "--dicom-to=PACS@127.0.0.1:1"]
    with pytest.raises(NodeError, match="4 instances wait"):
        cli(["score", str(inbox), "--name=tiny", *places, *words])
    printed = capsys.readouterr()
    assert "5 scored" in printed.out
    assert not [name for name in NAMES if name in printed.out + printed.err]
    assert len(table(tmp_path / "scores")) == 5
    assert len(find_instances(tmp_path / "results")) == 4
