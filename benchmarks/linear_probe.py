"""What a frozen trunk knows of the classes: a linear classifier on its features, judged on left-out images."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from cxr.network.resnet import BATCH_SIZE, Classifier
from cxr.training.run import Run


def probe(run: Run, fold: int, network: Classifier, device: str) -> float:
    """Return the ROC-AUC on the left-out images of a linear classifier on the frozen trunk's features.

    The batch statistics of either trunk are those of the training images as they are.
    """
    training, left_out = run.training_images(fold), run.images().query("fold == @fold")
    trunk = network.to(device).stages("head")[0]
    squares = torch.from_numpy(run.squares(training))
    settle_statistics(network, trunk, squares, device)
    classifier = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(0, 5, 6)))
    positive = run.classes[1]
    classifier.fit(features(network, trunk, squares, device), training["label"] == positive)
    score = classifier.decision_function(features(network, trunk, torch.from_numpy(run.squares(left_out)), device))
    return round(float(roc_auc_score(left_out["label"] == positive, score)), 4)


def settle_statistics(network: Classifier, trunk: nn.Module, squares_NHW: torch.Tensor, device: str) -> None:
    """Set the batch statistics of the trunk to their mean over batches of these images."""
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over batches
    trunk.train()
    features(network, trunk, squares_NHW, device)
    trunk.eval()


@torch.inference_mode()
def features(network: Classifier, trunk: nn.Module, squares_NHW: torch.Tensor, device: str) -> NDArray[np.float32]:
    """Return the trunk's output for each image, shape (n, n_features)."""
    parts = [network.preprocessing.inputs(part.to(device)) for part in squares_NHW.split(BATCH_SIZE)]
    return torch.cat([trunk(part).cpu() for part in parts]).numpy()
