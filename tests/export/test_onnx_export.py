"""The exported graph against the scorer, from an image's bytes to its probability."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime

from cxr.config import ScoreConfig
from cxr.export.build import make_package
from cxr.images.decoding import decode_square
from cxr.images.synthetic import draw_inbox
from cxr.serving.scorer import Scorer
from cxr.serving.scoring_runs import open_scoring_run
from cxr.storage import verified
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run


def test_the_graph_gives_the_probabilities_that_scoring_gives(home: Path, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path / "models", "tiny")
    made = make_package(load_run(RunFolder(home / "experiments" / "run")), model, onnx=True)
    verified.write_text(model.champion, made.version)
    draw_inbox(tmp_path / "inbox", n_images=5, seed=3)
    config = ScoreConfig(
        name="tiny", models=tmp_path / "models", cache=tmp_path / "c", settle=0, precision="fp32", out=tmp_path / "s"
    )
    run, (batch,) = open_scoring_run(tmp_path / "inbox", config)
    rows = Scorer(run).score(batch.name, batch.arrivals).query("status == 'ok'")
    images = [(tmp_path / "inbox" / batch.name / path).read_bytes() for path in rows["path"]]
    squares = np.stack([decode_square(image, run.package().size) for image in images])
    session = onnxruntime.InferenceSession(made.onnx, providers=["CPUExecutionProvider"])
    for n_images in (1, len(squares)):
        (probability,) = session.run(["probability"], {"squares": squares[:n_images]})
        expected = rows[["probability_NORMAL", "probability_PNEUMONIA"]].to_numpy()[:n_images]
        np.testing.assert_allclose(probability, expected, atol=1e-5)
    shutil.rmtree(model.path)
