from app.scoring_runs import _readable_time
from app.server import Folders
from tests.app.support import opened, texts


def test_scoring_runs_show_counts_reasons_and_images_worth_a_second_look(folders: Folders) -> None:
    view = opened("scoring_runs", folders)
    shown = {metric.label: metric.value for metric in view.metric}
    assert (shown["Images scored"], shown["Quarantined"]) == ("6", "6")
    tables = [frame.value for frame in view.dataframe]
    assert tables[0][["batch", "state", "images", "quarantined"]].to_numpy().tolist() == [["ward-3", "published", 6, 6]]
    quarantined = next(table for table in tables if list(table.columns) == ["path", "reason", "detail"])
    assert set(quarantined["reason"]) == {
        "blank",
        "truncated",
        "empty",
        "not_an_image",
        "colour_photograph",
        "unsupported_format",
    }
    assert "Worth a second look: nearest to the threshold" in texts(view)
    assert len(tables[-1]) == 12


def test_a_scoring_run_is_named_by_its_minute() -> None:
    assert _readable_time("2026-11-26T02-00-07Z") == "2026-11-26 02:00"
