"""A scoring run's table, `cxr explain` and the page predict the same for an image."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.config import ScoreConfig
from cxr.errors import ConfigError
from cxr.images.inbox import Arrival, single_file
from cxr.images.synthetic import draw_examples
from cxr.network.acceleration import compiled_graphs
from cxr.network.devices import uses_bf16
from cxr.serving.explanations import explain_images
from cxr.serving.predictor import Prediction, Predictor
from cxr.serving.registry import load_champion
from cxr.serving.scoring.scorer import Scorer
from cxr.serving.scoring.scores import score_row, scores_table
from cxr.serving.scoring.scoring_runs import open_scoring_run
from cxr.serving.screening import examine_image, read_image
from cxr.storage.run_folder import ExplanationFolder
from tests.support.shared import NewFolder


@pytest.fixture(scope="module")
def inbox(new_folder: NewFolder) -> Path:
    """Three drawn images in one batch, changed long ago."""
    inbox = new_folder("inbox")
    (inbox / "ward").mkdir()
    for k, image in enumerate(draw_examples(seed=5).values()):
        (inbox / "ward" / f"{k}.jpeg").write_bytes(image)
    return inbox


def test_an_image_alone_has_the_probability_of_its_row_in_the_scoring_runs_table(
    home: Path, inbox: Path, tmp_path: Path
) -> None:
    config = ScoreConfig(name="tiny", models=home / "models", cache=tmp_path, out=tmp_path / "scores", settle=0)
    run, (batch,) = open_scoring_run(inbox, config)
    rows = Scorer(run).score(batch.name, batch.arrivals).set_index("path")
    package = load_champion(home / "models", "tiny")
    predictor = Predictor(package, cache=tmp_path)
    for name, row in rows.iterrows():
        data = (inbox / "ward" / str(name)).read_bytes()
        (prediction,) = predictor.predict([examine_image(Arrival("x", "", len(data), 0), data, package.size)])
        for column, value in prediction.columns.items():
            expected = row[column]
            if value is None:  # the package refers no image
                assert pd.isna(expected), column
                continue
            assert value == (expected if isinstance(value, str | bool) else pytest.approx(expected, abs=1e-6)), column
        for of_class in package.classes:
            assert np.mean(prediction.by_fold[of_class]) == pytest.approx(prediction.probability[of_class])
            assert np.ptp(prediction.by_fold[of_class]) <= prediction.fold_spread + 1e-12
    explained = explain_images(
        package, [inbox / "ward" / str(name) for name in rows.index], ExplanationFolder(tmp_path / "x"), cache=tmp_path
    )
    for column in ("probability_PNEUMONIA", "fold_spread", "novelty"):
        np.testing.assert_allclose(explained[column], rows[column], atol=1e-6)


def test_a_graph_that_was_compiled_since_is_seen(tmp_path: Path) -> None:
    assert compiled_graphs(tmp_path) == ()
    (tmp_path / "compiled").mkdir()
    for name in ("b.pt2", "count.json"):
        (tmp_path / "compiled" / name).touch()
    assert compiled_graphs(tmp_path) == ("b.pt2",)


@pytest.mark.parametrize("moved", [0.02, 0.01])
def test_the_package_alone_decides_whether_bfloat16_is_used(home: Path, tmp_path: Path, moved: float) -> None:
    package = load_champion(home / "models", "tiny")
    facts = package.facts | {"bfloat16": {"largest_probability_difference": moved, "n_images": 64}}
    predictor = Predictor(dataclasses.replace(package, facts=facts), precision="auto", cache=tmp_path)
    exact = Predictor(package, precision="fp32", cache=tmp_path)
    data = draw_examples(seed=6)["one dense patch"]
    image = examine_image(Arrival("x", "", len(data), 0), data, package.size)
    probability = predictor.predict([image])[0].probability
    is_rounded = probability != exact.predict([image])[0].probability
    assert is_rounded == (uses_bf16("auto", "cpu") and moved <= 0.01)


def test_requested_bfloat16_is_refused_where_it_moves_a_probability_too_far(home: Path, tmp_path: Path) -> None:
    package = load_champion(home / "models", "tiny")
    facts = package.facts | {"bfloat16": {"largest_probability_difference": 0.0201, "n_images": 64}}
    predictor = Predictor(dataclasses.replace(package, facts=facts), precision="bf16", cache=tmp_path)
    data = draw_examples(seed=6)["one dense patch"]
    image = examine_image(Arrival("x", "", len(data), 0), data, package.size)
    with pytest.raises(ConfigError, match=r"bfloat16 moves a probability of tiny by 0\.0201, at most 0\.01 is allowed"):
        predictor.predict([image])


def test_an_image_beyond_the_limit_of_the_package_is_unlike_the_training_images(home: Path, tmp_path: Path) -> None:
    package = load_champion(home / "models", "tiny")
    data = draw_examples(seed=6)["one dense patch"]
    image = examine_image(Arrival("x", "", len(data), 0), data, package.size)

    def predicted(limit: float | None) -> Prediction:
        facts = package.facts | {"novelty": {"limit": limit}}
        return Predictor(dataclasses.replace(package, facts=facts), cache=tmp_path).predict([image])[0]

    novelty = predicted(None).novelty
    limits = (novelty, np.nextafter(novelty, 0), None)
    assert [predicted(limit).unlike_training for limit in limits] == [False, True, None]


def test_a_package_from_before_there_was_a_limit_predicts_the_same_and_leaves_open_what_is_unlike(
    home: Path, inbox: Path, tmp_path: Path
) -> None:
    package = load_champion(home / "models", "tiny")
    old = dataclasses.replace(package, facts={key: v for key, v in package.facts.items() if key != "novelty"})
    readings = [read_image(single_file(path), package.size) for path in sorted((inbox / "ward").iterdir())]
    before, now = (Predictor(of, cache=tmp_path).predict(readings) for of in (old, package))
    assert [prediction.unlike_training for prediction in before] == [None] * 3
    assert [dataclasses.replace(prediction, unlike_training=None) for prediction in now] == before
    rows = [score_row(old, "ward", r, p.columns | r.measures) for r, p in zip(readings, before, strict=True)]
    assert scores_table(rows, old.classes)["unlike_training"].isna().all()
