"""Tables of labels at the size of NIH ChestX-ray14: how long they take to resolve, group and fold, and in what memory.

    python -m benchmarks.label_tables

The table is drawn: 112,120 rows of 30,805 patients, 14 findings joined by `|`, in twelve folders. No image is read; the
manifest has the columns that folds need.
"""

import argparse
import io
import resource
import time
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import pandas as pd

from benchmarks.results import keep
from cxr.config import DataConfig
from cxr.dataset.folds import assign_folds, certify
from cxr.labels.resolution import resolve, wanted_finding, with_classes

N_IMAGES = 112_120
N_PATIENTS = 30_805
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
SHARES = np.array([11559, 2776, 4667, 2303, 13317, 2516, 1686, 227, 19894, 5782, 6331, 3385, 1431, 5302]) / N_IMAGES
"""Of the images, as the published table has them."""


class DrawnSource:
    """The files of a set that is not there, and its table."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        patient = np.sort(
            np.concatenate([np.arange(N_PATIENTS), generator.integers(0, N_PATIENTS, N_IMAGES - N_PATIENTS)])
        )
        number = pd.Series(patient).groupby(patient).cumcount()
        self.names = [f"{p + 1:08d}_{k:03d}.png" for p, k in zip(patient, number, strict=True)]
        has = generator.random((N_IMAGES, len(FINDINGS))) < SHARES
        text = ["|".join(np.array(FINDINGS)[row]) or "No Finding" for row in has]
        columns = {"Image Index": self.names, "Finding Labels": text, "Follow-up #": number, "Patient ID": patient + 1}
        age, sex = generator.integers(1, 95, N_IMAGES), np.where(patient % 2, "F", "M")
        table = pd.DataFrame(columns | {"Patient Age": age, "Patient Gender": sex, "View Position": "PA"})
        stream = io.StringIO()
        table.to_csv(stream, index=False)
        self.table = stream.getvalue().encode()

    @cached_property
    def files(self) -> list[str]:
        """Paths of the images."""
        return [f"images_{1 + k % 12:03d}/images/{name}" for k, name in enumerate(self.names)]

    def sizes(self) -> Mapping[str, int]:
        """Return every file's path and size."""
        return dict.fromkeys(self.files, 1) | {"Data_Entry_2017.csv": len(self.table)}

    def empty_folders(self) -> list[str]:
        """Return no folder."""
        return []

    def read(self, path: str) -> bytes:
        """Return the table."""
        return self.table

    def head(self, path: str, n_bytes: int) -> bytes:
        """Return the table's first bytes."""
        return self.table[:n_bytes]


def main() -> None:
    """Draw, resolve, fold; print seconds and memory; keep the figures."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    source = DrawnSource(seed=0)
    before = _peak_mib()
    config = DataConfig(data="nih", describe="nih", positive="Pneumonia")
    seconds: dict[str, float] = {}
    for name, finding in (("14 findings", None), ("one finding", wanted_finding(config, config.positive))):
        start = time.perf_counter()
        found = resolve(config, source, source.files, lambda: bytes(32), finding=finding)
        seconds[name] = round(time.perf_counter() - start, 1)
    resolved_mib = _peak_mib()
    images = with_classes(found, config, config.positive).images
    start = time.perf_counter()
    manifest = _manifest(images)
    folds = assign_folds(manifest, _no_pairs(), config)
    certificate = certify(manifest, _no_pairs(), folds, config)
    seconds["group, fold and certify"] = round(time.perf_counter() - start, 1)
    figures: dict[str, object] = {f"{name}, s": value for name, value in seconds.items()}
    figures |= {"images": len(folds), "patients": certificate["n_patient_ids"], "groups": certificate["n_groups"]}
    figures |= {
        "memory of the drawn table, MiB": before,
        "peak to resolve, MiB": resolved_mib,
        "peak, MiB": _peak_mib(),
    }
    keep("label_tables", figures)


def _manifest(images: pd.DataFrame) -> pd.DataFrame:
    path = images.index.to_series().reset_index(drop=True)
    facts = images.reset_index(drop=True)
    identity = {"image_id": path, "path": path, "status": "used", "subtype": pd.Series(None, path.index, dtype="str")}
    return facts[["label", "split", "patient_id"]].assign(**identity)


def _no_pairs() -> pd.DataFrame:
    return pd.DataFrame({"image_id_a": [], "image_id_b": [], "verified": np.array([], bool)})


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
