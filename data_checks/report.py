"""The report of the data checks: one HTML file that needs no network.

Jinja escapes all text from the data (paths, labels, reasons). Images are embedded as small JPEGs.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import __version__
from cxr.classes import NO_FINDING, Findings
from cxr.config import DataConfig
from cxr.dataset.pictures import read_pictures
from cxr.errors import DataError, UnreadableError
from cxr.report.histograms import Mark, histogram, shares_of
from cxr.report.markup import THUMBNAIL_PX, render, thumbnail
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.verdict import SEVERITIES, Finding, Verdict, format_value
from cxr.wording import DISCLAIMER
from data_checks.tolerances import Tolerances

MAX_THUMBNAILS = 12
"""Most offending images that the report shows for an expectation."""
N_BINS = 30
MEASURES = {
    "width": ("Width, px", "min_side_px"),
    "height": ("Height, px", "min_side_px"),
    "mean": ("Mean grey level, 0 to 255", None),
    "contrast": ("Contrast: standard deviation of grey levels", "blank_contrast"),
    "border": ("Border: mean grey level, 0 to 255", None),
    "n_bytes": ("Size of the file, bytes", None),
}
"""Measures of an image: name with unit, and the tolerance below which a value is an exception."""


def write_report(folder: RunFolder, config: DataConfig, verdicts: Sequence[Verdict], limit: Tolerances) -> None:
    """Write `checks/report.html` from the verdicts, the tables in the folder, and the limits that its charts mark."""
    images = verified.read_table(folder.manifest)
    data = verified.read_json(folder.data)
    certificate = verified.read_json(folder.certificate) if verified.exists(folder.certificate) else None
    baseline = (
        verified.read_table(folder.acquisition_baseline) if verified.exists(folder.acquisition_baseline) else None
    )
    by_label = _by_label(images)
    labels = sorted(by_label["label"].dropna().unique())
    counts = {severity: sum(len(verdict.failed(severity)) for verdict in verdicts) for severity in SEVERITIES}
    page = render(
        Path(__file__).with_name("checks.html.j2"),
        run_id=folder.run_id,
        made_at=files.now(),
        version=__version__,
        disclaimer=DISCLAIMER,
        data=data,
        counts=counts,
        verdicts=verdicts,
        images_by_step=_steps(data["images"], certificate, images),
        class_rows=_class_rows(by_label, data["images"]["used"]),
        patients=_images_per_patient(images),
        reasons=_reasons(images),
        charts=[_chart(by_label, name, labels, limit) for name in MEASURES],
        certificate=certificate,
        baseline=_baseline(baseline),
        thumbnails=_Thumbnails(images, config).of_finding,
        max_thumbnails=MAX_THUMBNAILS,
    )
    verified.write_text(folder.checks_report, page)


def _by_label(images: pd.DataFrame) -> pd.DataFrame:
    """Return the images; with several findings each of them once for every finding that is present, as its label."""
    findings = Findings.of_columns(images.columns)
    if not findings:
        return images
    columns = zip(findings, findings.columns, strict=True)
    present = [images[images[column].fillna(False)].assign(label=name) for name, column in columns]
    return pd.concat([*present, images[images["label"] == NO_FINDING]], ignore_index=True)


Step = tuple[str, str, list[tuple[str, str]]]


def _steps(counts: dict[str, int], certificate: dict[str, Any] | None, images: pd.DataFrame) -> list[Step]:
    """Return the steps of the flow diagram: how many, of what, and how many are left out there and why."""
    left_out = [("unreadable", "unreadable"), ("duplicate", "byte-identical copies")]
    found = (f"{counts['found']:,}", "image files found", [(f"{counts[name]:,}", why) for name, why in left_out])
    used = f"{counts['used']:,}"
    if certificate is None:
        return [found, (used, "images used", [])]
    holdout = certificate["holdout"]
    n_held_out = ((images["status"] == "used") & (images["split"] == holdout)).sum() if holdout else 0
    held_out = [(f"{n_held_out:,}", f"held out ({holdout})")] if holdout else []
    return [found, (used, "images used", held_out), (f"{certificate['n_groups']:,}", "groups (patients) in folds", [])]


def _class_rows(images: pd.DataFrame, n_used: int) -> list[dict[str, Any]]:
    """Return one row per label: its used images, their share of all, and their number in each split of the archive."""
    used = images[images["status"] == "used"]
    table = pd.crosstab(used["label"], used["split"].fillna("no split"))
    splits = [split for split in ("train", "val", "test", "no split") if split in table]
    return [
        {
            "label": label,
            "n": int(row.sum()),
            "share": row.sum() / n_used,
            "splits": {split: int(row[split]) for split in splits},
        }
        for label, row in table.iterrows()
    ]


def _images_per_patient(images: pd.DataFrame) -> list[tuple[str, int]]:
    """Return how many patients have 1, 2, 3 to 5, … used images; empty where no patient is known."""
    per_patient = images.loc[images["status"] == "used", "patient_id"].dropna().value_counts()
    bins = pd.cut(per_patient, [0, 1, 2, 5, 10, np.inf], labels=["1", "2", "3 to 5", "6 to 10", "more than 10"])
    counts = bins.value_counts(sort=False)
    return [(str(name), int(n)) for name, n in counts.items()] if len(per_patient) else []


def _reasons(images: pd.DataFrame) -> list[tuple[str, str]]:
    unreadable = images[images["status"] == "unreadable"]
    return list(zip(unreadable["path"], unreadable["reason"], strict=True))


def _plain(value: float) -> str:
    """Return a measure with four digits, or in whole numbers, and never as a power of ten."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _chart(images: pd.DataFrame, name: str, labels: Sequence[str], limit: Tolerances) -> dict[str, Any]:
    """Return the title of a measure and its histogram by label as an SVG, or the single value that it has."""
    title, tolerance = MEASURES[name]
    values = images.loc[images["status"] == "used", [name, "label"]].dropna().astype({name: float})
    if values.empty or values[name].nunique() == 1:
        single_value = f"{values[name].iloc[0]:g} for every image" if not values.empty else "no image"
        return {"title": title, "single_value": single_value}
    edges = np.histogram_bin_edges(values[name], bins=N_BINS)
    by_label = {label: values.loc[values["label"] == label, name] for label in labels}
    counts = {label: np.histogram(of_label, bins=edges)[0] for label, of_label in by_label.items() if len(of_label)}
    medians = ", ".join(f"{label} {_plain(by_label[label].median())}" for label in counts)
    figure = histogram(
        f"chart-{name}",
        title,
        f"Histogram by class. Medians: {medians}.",
        shares_of(counts, edges),
        axis=title,
        share="Share of the class",
        mark=Mark("smallest allowed", getattr(limit, tolerance)) if tolerance else None,
        width=4,
        height=2.6,
    )
    return {"title": title, "single_value": None, "svg": figure.svg, "medians": medians}


def _baseline(baseline: pd.DataFrame | None) -> dict[str, Any] | None:
    """Return the baseline's metrics with all features together, and its ROC-AUC with each feature alone."""
    if baseline is None:
        return None
    name = None
    if "class" in baseline:  # of several findings, the one that acquisition predicts best
        auc = baseline.query("features == 'all' and metric == 'roc_auc'").set_index("class")["value"]
        name = auc.idxmax() if auc.notna().any() else auc.index[0]
        baseline = baseline[baseline["class"] == name]
    alone = baseline[baseline["features"] != "all"].set_index("features")["value"]
    together = baseline[baseline["features"] == "all"].set_index("metric")["value"]
    return {"together": together.to_dict(), "alone": alone.to_dict(), "finding": name}


class _Thumbnails:
    """The images that a finding names, as data URIs; each image is decoded once."""

    def __init__(self, images: pd.DataFrame, config: DataConfig) -> None:
        readable = images[images["status"] != "unreadable"]
        self._image_id = dict(zip(readable["path"], readable["image_id"], strict=True))
        self._config = config
        self._read: Callable[..., Any] | None = None
        self._known: dict[str, str | None] = {}

    def of_finding(self, finding: Finding) -> list[dict[str, Any]]:
        """Return `paths`, `pictures` (None where an image cannot be shown) and `value` of the first offending rows."""
        return [self._entry(row) for row in finding.unexpected[:MAX_THUMBNAILS]]

    def _entry(self, row: dict[str, Any]) -> dict[str, Any]:
        paths = [row[name] for name in ("path", "path_a", "path_b") if row.get(name)]
        return {
            "paths": paths,
            "pictures": [self._picture(path) for path in paths],
            "value": format_value(row.get("value")),
        }

    def _picture(self, path: str) -> str | None:
        if path not in self._known:
            self._known[path] = self._encode(path)
        return self._known[path]

    def _encode(self, path: str) -> str | None:
        if path not in self._image_id:
            return None
        try:
            self._read = self._read or read_pictures(self._config, THUMBNAIL_PX)
            picture = self._read(path, self._image_id[path]).grey
        except (DataError, UnreadableError):  # the file has gone since; its row is shown without a picture
            return None
        return thumbnail(picture)
