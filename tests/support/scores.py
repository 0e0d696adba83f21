"""Scores of a model that never was, and the package that they promise something by."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.feedback.feedback import give_feedback
from cxr.serving.registry import load_champion
from cxr.serving.scoring.scores import scores_table
from cxr.storage import files
from cxr.storage.model_folder import ModelFolder
from cxr.storage.scores_folder import ScoresFolder
from tests.support.labels import from_table

CLASSES = ("NORMAL", "PNEUMONIA")


def image_id_of(number: int) -> str:
    """The content hash of an image that was drawn as a number."""
    return f"{number:064x}"


def draw_scores(
    out: Path, truth: Sequence[bool], *, shift: float = 2.0, first: int = 0, seed: int = 0, **facts: Any
) -> pd.DataFrame:
    """Publish scores of drawn images as a part of a batch; return their rows.

    Args:
        out: folder of the scores.
        truth: whether each image is of the positive class.
        shift: how much higher it scores then, in standard deviations of the log odds.
        first: number of the first image, which decides its name and its hash.
        seed: of the scores.
        facts: columns that differ from `batch` monday, `model` tiny, `model_version` 1, `in_training` False and
            `scored_at` 2026-11-02.
    """
    generator = np.random.default_rng(seed)
    odds = generator.normal(0, 1, len(truth)) + shift * (np.asarray(truth, float) - 0.5)
    probability = 1 / (1 + np.exp(-odds))
    defaults: dict[str, Any] = {"batch": "monday", "model": "tiny", "model_version": "1", "in_training": False}
    common = defaults | {"scored_at": pd.Timestamp("2026-11-02T02:00Z")} | facts
    rows = [
        {
            "path": f"{number}.png",
            "image_id": image_id_of(number),
            "status": "ok",
            "probability_NORMAL": 1 - value,
            "probability_PNEUMONIA": value,
            "predicted_label": CLASSES[int(value >= 0.5)],
            "n_bytes": 1,
            "changed_ns": 0,
        }
        | common
        for number, value in enumerate(probability, first)
    ]
    table = scores_table(rows, CLASSES)
    batch = ScoresFolder.at(out).published(common["batch"])
    files.write_table(batch.part(f"{first} {seed} {common['model_version']}"), table)
    return table


def draw_class_scores(out: Path, classes: Sequence[str], shift: Mapping[str, float], n: int = 300) -> list[str]:
    """Publish scores of a model `three` for drawn images, of the classes in turn; return their labels.

    Args:
        out: folder of the scores.
        classes: of the model.
        shift: how much higher each class scores where it is the label, in standard deviations.
        n: images.
    """
    labels = [classes[number % len(classes)] for number in range(n)]
    odds = np.random.default_rng(0).normal(0, 1, (n, len(classes)))
    odds += [[shift[name] * (name == label) for name in classes] for label in labels]
    probability = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    facts: dict[str, Any] = {"batch": "monday", "model": "three", "model_version": "1", "in_training": False}
    facts |= {"status": "ok", "n_bytes": 1, "changed_ns": 0, "scored_at": pd.Timestamp("2026-11-02T02:00Z")}
    rows = [
        {"path": f"{number}.png", "image_id": image_id_of(number), "predicted_label": classes[int(row.argmax())]}
        | {f"probability_{name}": value for name, value in zip(classes, row, strict=True)}
        | facts
        for number, row in enumerate(probability)
    ]
    files.write_table(ScoresFolder.at(out).published("monday").part("three"), scores_table(rows, classes))
    return labels


def write_labels(file: Path, labels: dict[str, str], **columns: Sequence[str]) -> Path:
    """Write a table of labels by path; return it."""
    pd.DataFrame({"path": list(labels), "label": list(labels.values()), **columns}).to_csv(file, index=False)
    return file


def label_scores(home: Path, out: Path, *, flip: bool = False) -> pd.DataFrame:
    """Give every image that the model `tiny` has scored the predicted label, or the other one; return the verdicts.

    Args:
        home: holds the model.
        out: folder of the scores.
        flip: give the other label.
    """
    rows = pd.read_parquet(out).query("status == 'ok'").drop_duplicates("image_id")
    is_positive = (rows["predicted_label"] == CLASSES[1]) != flip
    labels = pd.DataFrame({"image_id": rows["image_id"], "label": np.where(is_positive, CLASSES[1], CLASSES[0])})
    labels.to_csv(out.parent / "later.csv", index=False)
    champion = load_champion(home / "models", "tiny")
    model = ModelFolder.named(home / "models", "tiny")
    folder = ScoresFolder.at(out)
    labelling = from_table(out.parent / "later.csv")
    give_feedback(folder, model, champion, labelling, by="ada", cache=out.parent / "cache")
    return files.read_table(folder.feedback("tiny").verdicts)
