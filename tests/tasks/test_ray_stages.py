from pathlib import Path

from cxr.images.synthetic import draw_inbox
from cxr.serving.scoring.batch_rows import BatchRows
from cxr.serving.scoring.scoring_runs import open_scoring_run
from tasks.ray_stages import Network, read_step
from tests.serving.scoring.test_scoring_runs import config


def test_an_image_that_changed_before_it_was_read_again_is_not_predicted_and_gets_no_row(
    home: Path, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    draw_inbox(inbox, n_images=2, seed=5)
    run, (batch,) = open_scoring_run(inbox, config(home, tmp_path / "scores", device="cpu"))
    readings, _ = read_step(batch.arrivals, run.package().size)
    first, second = sorted((inbox / batch.name).glob("image-*.jpeg"))
    second.write_bytes(first.read_bytes() + b"another")
    _, squares = read_step([file for file in batch.arrivals if file.path == first.name], run.package().size)
    network = Network(run, None)
    network.load()
    rows = BatchRows(run, batch.name)
    files = rows.ask(readings, lambda asked: lambda: network.answer(asked, squares).answers)
    table = rows.table(files)
    assert set(table.loc[table["status"] == "ok", "path"]) == {first.name}
    assert len(table) == len(batch.arrivals) - 1
