import shutil
from pathlib import Path

from app.server import Folders
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from tests.app.support import open_run, opened, texts
from tests.support.runs import Finished


def test_a_run_shows_its_metrics_and_every_section(folders: Folders) -> None:
    view = opened("runs", folders)
    assert not view.warning
    summary = files.read_table(RunFolder.named(folders.experiments, "run").summary).set_index("metric")
    shown = view.table[0].value
    row = summary.loc["roc_auc"] * 100
    interval = f"{row['pooled']:.1f} [{row['ci_low']:.1f}, {row['ci_high']:.1f}]"
    assert shown.loc["ROC-AUC", "pooled [95%]"].replace("\N{NO-BREAK SPACE}", " ") == interval
    for section in ("Curves", "Folds and subgroups", "Errors", "Label suspects", "Training", "Compare"):
        view.pills[0].set_value(section).run()
        assert not view.exception, section
    assert "no other run" in view.info[0].value


def test_an_unfinished_run_says_how_far_it_is(folders: Folders, tmp_path: Path) -> None:
    shutil.copytree(folders.experiments / "run", tmp_path / "third", ignore=shutil.ignore_patterns("*.safetensors"))
    third = RunFolder(tmp_path / "third")
    verified.remove(third.summary, third.fold(1).complete)
    view = opened("runs", Folders(tmp_path, folders.models, folders.scores, folders.cache))
    assert view.header[0].value == "third"
    assert "This run is not finished: 1 of 2 folds are complete." in view.info[0].value


def test_a_run_of_clusters_says_what_sets_them_apart(folders: Folders, finished: Finished) -> None:
    folder = finished(leave_out="cluster").folder
    view = opened("runs", Folders(folder.path.parent, folders.models, folders.scores, folders.cache))
    assert view.dataframe[0].value["leave_out"].tolist() == ["cluster"]
    (warning,) = [warning.value for warning in view.warning]
    assert "do not compare them with those of a run whose folds left out patients at random" in warning
    view.pills[0].set_value("Folds and subgroups").run()
    assert not view.exception
    assert "How clusters differ" in texts(view)
    shown = next(table.value for table in view.dataframe if "measure" in table.value)
    assert len(shown) == len(files.read_table(folder.table("clusters")))
    assert "share of black" in set(shown["measure"])
    assert not any("_" in measure for measure in shown["measure"])


def test_the_newest_run_is_open_and_a_click_on_a_row_opens_another(folders: Folders, tmp_path: Path) -> None:
    for name, begun_at in (("new", "2026-11-26T02:00:00+00:00"), ("old", "2026-11-25T02:00:00+00:00")):
        shutil.copytree(folders.experiments / "run", tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
        run = RunFolder(tmp_path / name)
        verified.write_json(run.config, files.read_record(run.config) | {"begun_at": begun_at})
    view = opened("runs", Folders(tmp_path, folders.models, folders.scores, folders.cache))
    assert view.dataframe[0].value["run"].tolist() == ["new", "old"]
    assert view.header[0].value == "new"
    open_run(view, "old")
    assert view.header[0].value == "old"
    view.pills[0].set_value("Training").run()
    assert view.header[0].value == "old", "it stays open"


def test_the_report_can_be_downloaded_once_it_is_written(folders: Folders, tmp_path: Path) -> None:
    shutil.copytree(folders.experiments / "run", tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors"))
    place = Folders(tmp_path, folders.models, folders.scores, folders.cache)
    view = opened("runs", place)
    assert not view.download_button
    assert "The run has no report yet: `cxr report` writes it." in texts(view)
    verified.write_text(RunFolder(tmp_path / "run").report, "<html></html>")
    view = opened("runs", place)
    assert [button.label for button in view.download_button] == ["Report (HTML)"]
