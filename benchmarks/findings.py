"""Folds over several findings at the shape of NIH ChestX-ray14: time, memory, and how evenly findings are spread.

    python -m benchmarks.findings

112,120 drawn rows of 30,805 patients with up to 184 images each, and 14 findings as frequent as the published ones, are
grouped, folded and certified; no image is read. The largest deviation of a finding's share in a fold from its share in
all is beside that of groups dealt out at random.
"""

import resource
import time

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.results import keep
from cxr.classes import Findings
from cxr.config import DataConfig
from cxr.dataset.findings import describe_findings, known_labels
from cxr.dataset.folds import assign_folds, certify

N_IMAGES = 112_120
N_PATIENTS = 30_805
MOST_IMAGES = 184
N_FOLDS = 5
N_RANDOM = 20
PUBLISHED = {
    "Atelectasis": 11_559,
    "Cardiomegaly": 2_776,
    "Consolidation": 4_667,
    "Edema": 2_303,
    "Effusion": 13_317,
    "Emphysema": 2_516,
    "Fibrosis": 1_686,
    "Hernia": 227,
    "Infiltration": 19_894,
    "Mass": 5_782,
    "Nodule": 6_331,
    "Pleural_Thickening": 3_385,
    "Pneumonia": 1_431,
    "Pneumothorax": 5_302,
}
"""Images with each finding. Source: Wang et al., ChestX-ray8, CVPR 2017, and the table of its second release."""
FINDINGS = Findings(PUBLISHED)
NO_PAIRS = pd.DataFrame(columns=["image_id_a", "image_id_b"]).assign(verified=True)


def images_per_patient(generator: np.random.Generator) -> NDArray[np.int64]:
    """Return how many images each patient has: one at least, MOST_IMAGES at most, N_IMAGES in all."""
    weight = generator.lognormal(0, 1.6, N_PATIENTS)
    counts = 1 + np.minimum((N_IMAGES - N_PATIENTS) * weight / weight.sum(), MOST_IMAGES - 1).astype(np.int64)
    while (missing := N_IMAGES - counts.sum()) > 0:
        chosen = generator.choice(np.flatnonzero(counts < MOST_IMAGES), min(missing, N_PATIENTS // 2), replace=False)
        counts[chosen] += 1
    return counts


def draw_manifest(seed: int = 0) -> pd.DataFrame:
    """Return the manifest; images of one patient tend to have the same findings."""
    generator = np.random.default_rng(seed)
    patient = np.repeat(np.arange(N_PATIENTS), images_per_patient(generator))
    tendency = generator.normal(0, 1.5, (N_PATIENTS, len(PUBLISHED)))
    columns = {}
    for k, (column, n) in enumerate(zip(FINDINGS.columns, PUBLISHED.values(), strict=True)):
        score = tendency[patient, k] + generator.normal(size=N_IMAGES)
        columns[column] = pd.Series(score >= np.partition(score, -n)[-n], dtype="boolean")
    facts = {
        "image_id": [f"{number:064x}" for number in range(N_IMAGES)],
        "path": [f"images/{p:08d}_{number:06d}.png" for number, p in enumerate(patient)],
        "subtype": None,
        "split": None,
        "patient_id": [f"{p:08d}" for p in patient],
        "status": "used",
    }
    manifest = pd.DataFrame(facts | columns)
    return manifest.assign(label=describe_findings(manifest[FINDINGS.columns]))


def deviations(labels: NDArray[np.float64], fold: NDArray[np.integer]) -> tuple[float, float]:
    """Return the largest deviation of a finding's share in a fold: absolute, and relative to its share in all."""
    overall = labels.mean(axis=0)
    by_fold = np.array([labels[fold == k].mean(axis=0) for k in range(N_FOLDS)])
    difference = np.abs(by_fold - overall)
    return float(difference.max()), float((difference / overall).max())


def main() -> None:
    manifest = draw_manifest()
    config = DataConfig(data="drawn", task="multi", label_from="subtype", folds=N_FOLDS)
    start = time.monotonic()
    folds = assign_folds(manifest, NO_PAIRS, config)
    folded = time.monotonic()
    certificate = certify(manifest, NO_PAIRS, folds, config)
    certified = time.monotonic()
    labels = known_labels(folds, FINDINGS)
    absolute, relative = deviations(labels, folds["fold"].to_numpy())
    patient = folds["group_id"].factorize()[0]
    generator = np.random.default_rng(1)
    by_chance = np.array(
        [deviations(labels, generator.permutation(N_PATIENTS)[patient] % N_FOLDS) for _ in range(N_RANDOM)]
    )
    sizes = folds["fold"].value_counts()
    keep(
        "findings",
        {
            "n_images": len(folds),
            "n_patients": certificate["n_groups"],
            "most_images_of_a_patient": int(np.bincount(patient).max()),
            "n_findings": len(FINDINGS),
            "n_folds": N_FOLDS,
            "group_and_fold_s": round(folded - start, 1),
            "certify_s": round(certified - folded, 1),
            "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            "patients_in_two_folds": certificate["patient_ids_crossing_folds"],
            "smallest_fold": int(sizes.min()),
            "largest_fold": int(sizes.max()),
            "largest_deviation_points": round(100 * absolute, 4),
            "largest_relative_deviation": round(relative, 4),
            "at_random_deviation_points_median": round(100 * float(np.median(by_chance[:, 0])), 4),
            "at_random_relative_deviation_median": round(float(np.median(by_chance[:, 1])), 4),
            "at_random_relative_deviation_best_of_20": round(float(by_chance[:, 1].min()), 4),
        },
    )


if __name__ == "__main__":
    main()
