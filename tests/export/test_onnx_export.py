"""The exported graph against the scorer, from a film's bytes to its probability."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from cxr.config import ScoreConfig
from cxr.errors import ConfigError
from cxr.export.build import make_package
from cxr.images.decoding import decode_square
from cxr.images.synthetic import draw_inbox
from cxr.network import onnx_graph
from cxr.serving.scorer import Scorer
from cxr.serving.scoring_run import open_night
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.storage.run_folder import RunFolder
from cxr.training.run import load_run


def test_the_graph_gives_the_probabilities_that_scoring_gives(home: Path, tmp_path: Path) -> None:
    model = ModelFolder.named(tmp_path / "models", "tiny")
    made = make_package(load_run(RunFolder(home / "experiments" / "run")), model, onnx=True)
    files.write_text(model.champion, made.version)
    draw_inbox(tmp_path / "inbox", n_films=5, seed=3)
    config = ScoreConfig(
        name="tiny", models=tmp_path / "models", cache=tmp_path / "c", settle=0, precision="fp32", out=tmp_path / "s"
    )
    night, (batch,) = open_night(tmp_path / "inbox", config)
    rows = Scorer(night).score(batch.name, batch.arrivals).query("status == 'ok'")
    films = [(tmp_path / "inbox" / batch.name / path).read_bytes() for path in rows["path"]]
    squares = np.stack([decode_square(film, night.package().size) for film in films])
    session = onnxruntime.InferenceSession(made.onnx, providers=["CPUExecutionProvider"])
    for n_films in (1, len(squares)):
        (probability,) = session.run(["probability"], {"squares": squares[:n_films]})
        expected = rows[["probability_NORMAL", "probability_PNEUMONIA"]].to_numpy()[:n_films]
        np.testing.assert_allclose(probability, expected, atol=1e-5)
    shutil.rmtree(model.path)


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--onnx needs onnx and onnxscript: install cxr with the extra \[onnx\]"):
        onnx_graph.require_onnx("--onnx")
