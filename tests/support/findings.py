"""Images with several findings: drawn tables, and a small run in which the labels of some images are hidden."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.classes import Findings
from cxr.evaluation.findings import FindingsOutOfFold
from tests.support.predictions import metrics_by_scikit_learn

FINDINGS = Findings(("Effusion", "Mass", "Hernia"))
SHARES = (0.4, 0.2, 0.05)
UNKNOWN = 0.1


def draw_labels(n_images: int = 600, seed: int = 0, findings: Findings = FINDINGS) -> pd.DataFrame:
    """Return images of patients with 1 to 9 images: group_id, and each finding present, absent or unknown."""
    generator = np.random.default_rng(seed)
    group = generator.integers(0, n_images // 3, n_images)
    tendency = generator.normal(0, 1.5, (n_images // 3, len(findings)))[group]
    columns = {}
    for k, column in enumerate(findings.columns):
        score = tendency[:, k] + generator.normal(size=n_images)
        present = score > np.quantile(score, 1 - SHARES[k % len(SHARES)])
        columns[column] = pd.Series(present, dtype="boolean").mask(generator.random(n_images) < UNKNOWN)
    return pd.DataFrame({"group_id": [f"p{k:05d}" for k in group]} | columns)


def simulate_findings(n_images: int = 600, *, n_folds: int = 5, slope: float = 1.0, seed: int = 0) -> FindingsOutOfFold:
    """Return images with findings of known odds; with slope 1 the probabilities are calibrated."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-0.5, 1.5, (n_images, len(FINDINGS)))
    probability = 1 / (1 + np.exp(-logits))
    present = generator.random(probability.shape) < probability
    is_unknown = generator.random(probability.shape) < UNKNOWN
    group = generator.integers(0, n_images // 2, n_images)
    table = pd.DataFrame(
        {
            "image_id": [f"id{k}" for k in range(n_images)],
            "path": [f"{k}.jpeg" for k in range(n_images)],
            "group_id": [f"g{k}" for k in group],
            "fold": group % n_folds,
            "label": "",
            "subtype": None,
        }
    )
    for k, column in enumerate(FINDINGS.columns):
        table[column] = pd.Series(present[:, k], dtype="boolean").mask(is_unknown[:, k])
    scores = 1 / (1 + np.exp(-slope * logits))
    columns = dict(zip(FINDINGS.logit_columns, slope * logits.T, strict=True))
    return FindingsOutOfFold(
        table.assign(**columns, **dict(zip(FINDINGS.probability_columns, scores.T, strict=True))), FINDINGS
    )


def hide_subtypes(sample: Path, out: Path, *, every: int = 10) -> Path:
    """Return a copy of drawn images in which the names of some say nothing of bacteria or virus."""
    shutil.copytree(sample, out)
    sick = sorted(path for kind in ("bacteria", "virus") for path in out.rglob(f"*_{kind}_*"))
    for path in sick[::every]:
        path.rename(path.with_name(path.name.replace("_bacteria_", "_x").replace("_virus_", "_x")))
    return out


def by_scikit_learn(images: pd.DataFrame, name: str) -> dict[str, float]:
    """Return the metrics of one finding at probability 0.5, from scikit-learn alone, where it is known."""
    known = images[images[f"finding_{name}"].notna()]
    return metrics_by_scikit_learn(known[f"finding_{name}"].to_numpy(bool), known[f"probability_{name}"].to_numpy())
