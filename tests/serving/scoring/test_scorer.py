from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from cxr.images.decoding import decode_square
from cxr.images.inbox import Arrival
from cxr.images.synthetic import draw_inbox
from cxr.network.resnet import predict_logits
from cxr.serving.scoring import scores
from cxr.serving.scoring.scorer import Scorer, score_chunk
from cxr.serving.scoring.scoring_runs import open_scoring_run
from tests.serving.scoring.test_scoring_runs import config


def test_an_image_gets_the_mean_of_the_calibrated_folds_of_the_plain_networks(home: Path, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    draw_inbox(inbox, n_images=6, seed=5)
    run, (batch,) = open_scoring_run(inbox, config(home, tmp_path / "scores", precision="fp32"))
    rows = Scorer(run).score(batch.name, batch.arrivals)
    images = rows[rows["status"] == "ok"]
    package = run.package()
    paths = [inbox / batch.name / path for path in images["path"]]
    squares = np.stack([decode_square(path.read_bytes(), package.size) for path in paths])
    logits = np.stack([predict_logits(package.networks.model(fold), squares, "cpu") for fold in range(package.n_folds)])
    probability = package.calibration.probability(logits)
    np.testing.assert_allclose(images["probability_PNEUMONIA"], probability[..., 1].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(images["fold_spread"], np.ptp(probability[..., 1], axis=0), atol=1e-5)
    assert not images["in_training"].any()
    assert len(images) == 6


def test_rows_do_not_depend_on_how_images_are_decoded(home: Path, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    draw_inbox(inbox, n_images=12, seed=6)
    tables = []
    for workers in (0, 2):
        run, (batch,) = open_scoring_run(inbox, config(home, tmp_path / "scores", workers=workers))
        tables.append(Scorer(run).score(batch.name, batch.arrivals).drop(columns="scored_at"))
    pd.testing.assert_frame_equal(*tables)


def test_an_image_of_the_training_set_is_known_re_encoded_and_rescaled_too(
    home: Path, sample: Path, tmp_path: Path
) -> None:
    images = sorted((sample / "train" / "PNEUMONIA").glob("*.jpeg"))[:8]
    inbox = tmp_path / "inbox" / "ward"
    inbox.mkdir(parents=True)
    for image in images:
        picture = Image.open(image).convert("L")
        picture.resize((picture.width * 3 // 4, picture.height * 3 // 4)).save(
            inbox / f"small-{image.name}", quality=70
        )
        ImageOps.mirror(picture).save(inbox / f"other-{image.name}")
    run, (batch,) = open_scoring_run(inbox.parent, config(home, tmp_path / "scores"))
    rows = Scorer(run).score(batch.name, batch.arrivals)
    assert rows.loc[rows["path"].str.startswith("small-"), "in_training"].all()
    assert not rows.loc[rows["path"].str.startswith("other-"), "in_training"].any()


def test_a_chunk_that_could_not_be_written_is_scored_again(home: Path, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    draw_inbox(inbox, n_images=5, seed=10)
    run, (batch,) = open_scoring_run(inbox, config(home, tmp_path / "scores"))
    in_the_way = run.staged(batch.name).path
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    with pytest.raises(OSError, match="Not a directory"):
        score_chunk(run, batch.name, batch.arrivals)
    in_the_way.unlink()
    score_chunk(run, batch.name, batch.arrivals)
    assert len(scores.read_parts(run.staged(batch.name))) == len(batch.arrivals)


def test_a_file_that_is_being_written_waits_without_a_row(home: Path, tmp_path: Path) -> None:
    (tmp_path / "inbox" / "ward").mkdir(parents=True)
    image = tmp_path / "inbox" / "ward" / "image.jpeg"
    image.write_bytes(b"half of it")
    run, (batch,) = open_scoring_run(tmp_path / "inbox", config(home, tmp_path / "scores"))
    stale: list[Arrival] = batch.arrivals
    image.write_bytes(b"half of it, and more")
    assert Scorer(run).score("ward", stale).empty


def test_a_chunk_that_two_processes_score_has_one_row_for_each_file(home: Path, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    draw_inbox(inbox, n_images=4, seed=5)
    run, (batch,) = open_scoring_run(inbox, config(home, tmp_path / "scores", device="cpu"))
    arrivals = batch.arrivals
    tables = [Scorer(run).score(batch.name, arrivals) for _ in range(2)]  # neither knows about the other
    for table in tables:
        scores.stage(run.part(batch.name, arrivals), table)
    score_chunk(run, batch.name, arrivals)
    rows = scores.read_parts(run.staged(batch.name))
    assert sorted(rows["path"]) == sorted(arrival.path for arrival in arrivals)
