from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax

from cxr.errors import DamagedError
from cxr.storage import files
from cxr.training import features
from cxr.training.predictions import load_network, predict_fold, read_weights
from cxr.training.run import Run
from cxr.training.trainer import train_fold

Begin = Callable[..., Run]


def test_predicting_again_gives_the_same_table_from_the_weights_alone(begin: Begin) -> None:
    run = begin()
    train_fold(run, 0, "cpu")
    before = files.read_table(run.folder.fold(0).predictions)
    run.folder.fold(0).predictions.unlink()
    assert predict_fold(run, 0, "cpu") == 0, "no layer is frozen"
    pd.testing.assert_frame_equal(files.read_table(run.folder.fold(0).predictions), before, check_exact=True)


def test_predictions_from_features_are_those_of_the_whole_network_image_by_image(
    begin: Begin, weights_file: str
) -> None:
    run = begin(weights=weights_file, trainable="head", precision="fp32")
    train_fold(run, 0, "cpu")
    predictions = files.read_table(run.folder.fold(0).predictions).head(3)
    network = load_network(run, 0).eval()
    with torch.inference_mode():
        greys = torch.from_numpy(run.squares(predictions)).float()[:, None, None] / 255
        logits = np.concatenate([network(grey_11HW).numpy() for grey_11HW in greys])
    np.testing.assert_allclose(predictions[["logit_NORMAL", "logit_PNEUMONIA"]], logits, atol=1e-4)
    probabilities = softmax(logits, axis=1)
    np.testing.assert_allclose(predictions[["probability_NORMAL", "probability_PNEUMONIA"]], probabilities, atol=1e-5)


def test_features_handed_on_give_the_predictions_of_those_read_anew(begin: Begin, weights_file: str) -> None:
    run = begin(weights=weights_file, trainable="head", views=2)
    train_fold(run, 0, "cpu")
    tables = []
    for views in ((), features.extract(run, "cpu")):
        predict_fold(run, 0, "cpu", views)
        tables.append(files.read_table(run.folder.fold(0).predictions))
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_damaged_weights_are_told_with_the_way_out(begin: Begin) -> None:
    run = begin()
    train_fold(run, 0, "cpu")
    weights = run.folder.fold(0).weights
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DamagedError, match=r"weights\.safetensors' was changed .* --redo-fold 0\.$"):
        read_weights(run, 0)
