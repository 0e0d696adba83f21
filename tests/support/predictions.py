"""Simulated predictions."""

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from cxr.classes import Classes
from cxr.evaluation.out_of_fold import OutOfFold

CLASSES = Classes(["NORMAL", "PNEUMONIA"])


def simulate(
    n_images: int = 600, *, n_folds: int = 5, classes: Classes = CLASSES, slope: float = 1.0, seed: int = 0
) -> OutOfFold:
    """Return images of known odds; with slope 1 the probabilities are calibrated, above 1 they are overconfident."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (n_images, len(classes)))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = [generator.choice(len(classes), p=p) for p in shares]
    group = generator.integers(0, n_images // 2, n_images)
    table = pd.DataFrame({f"logit_{name}": slope * logits[:, k] for k, name in enumerate(classes)})
    odd = np.arange(n_images) % 2
    facts = {
        "image_id": [f"id{k}" for k in range(n_images)],
        "path": [f"{k}.jpeg" for k in range(n_images)],
        "group_id": [f"g{k}" for k in group],
        "fold": group % n_folds,
        "label": np.asarray(classes)[target],
        "subtype": np.where(np.asarray(target) == 1, np.where(odd, "virus", "bacteria"), None),
    }
    return OutOfFold(table.assign(**facts), classes)


def manifest_of(images: OutOfFold) -> pd.DataFrame:
    """Return a manifest of simulated images, with sizes, contrast and the archive's split."""
    n = len(images.predictions)
    generator = np.random.default_rng(1)
    measured = {"width": generator.integers(500, 900, n), "height": 500, "contrast": generator.random(n)}
    return images.predictions[["path"]].assign(**measured, split=np.where(np.arange(n) % 3, "train", "test"))


def draw_images(seed: int = 0, n_images: int = 80, n_groups: int = 25) -> tuple:
    """Return truth, prediction, probability and group of drawn images, each of shape (n_images,)."""
    generator = np.random.default_rng(seed)
    truth = generator.random(n_images) < 0.7
    probability = np.round(np.clip(0.3 * truth + generator.random(n_images) * 0.7, 0, 1), 1)  # with ties
    return truth, probability >= 0.5, probability, generator.integers(0, n_groups, n_images)


def metrics_by_scikit_learn(truth: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Return every metric of two classes at probability 0.5, from scikit-learn alone."""
    predicted = probability >= 0.5
    tn, fp, fn, tp = sk.confusion_matrix(truth, predicted, labels=[False, True]).ravel()
    return {
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
        "precision": sk.precision_score(truth, predicted, zero_division=np.nan),
        "sensitivity": sk.recall_score(truth, predicted),
        "specificity": sk.recall_score(~truth, ~predicted),
        "f1": sk.f1_score(truth, predicted),
        "roc_auc": sk.roc_auc_score(truth, probability),
        "average_precision": sk.average_precision_score(truth, probability),
        "true_positive": tp,
        "false_positive": fp,
        "true_negative": tn,
        "false_negative": fn,
    }
