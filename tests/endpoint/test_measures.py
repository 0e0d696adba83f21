import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cxr.endpoint.measures import N_RECENT, Measures
from cxr.feedback.performance import METRICS
from cxr.feedback.verdicts import Word
from cxr.metrics.drift import compare
from cxr.serving.package import Package
from cxr.storage import files
from cxr.storage.scores_folder import ScoresFolder
from tests.endpoint.conftest import Form
from tests.support.endpoint import served
from tests.support.scores import draw_scores, label_scores

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """Every sample of the text format, by its name and its labels."""
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_requests_images_refusals_and_batches_are_counted(
    package: Package, home: Path, images: list[bytes], form: Callable[..., Form]
) -> None:
    with served(package, home / "cache") as endpoint:
        before = endpoint.client.get("/metrics")
        assert before.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        fresh = samples(before.text)
        assert value(fresh, "cxr_images_total") == 0
        assert value(fresh, "cxr_drift_images") == 0
        assert not any(name == "cxr_drift_effect" for name, _ in fresh)
        files = form("images", a=images[0], b=images[1], c=b"", d=b"some text")
        endpoint.client.post("/predict", files=files)
        endpoint.client.post("/predict", content=images[2], headers={"Content-Type": "image/jpeg"})
        endpoint.client.post("/explain", files=form("image", a=b""))
        endpoint.client.get("/nowhere")
        found = samples(endpoint.client.get("/metrics").text)
    assert value(found, "cxr_requests_total", path="/predict", status="200") == 2
    assert value(found, "cxr_requests_total", path="/explain", status="422") == 1
    assert value(found, "cxr_requests_total", path="other", status="404") == 1
    assert value(found, "cxr_request_seconds_count", path="/predict") == 2
    assert value(found, "cxr_images_total") == 3
    assert value(found, "cxr_refused_files_total", reason="empty") == 2
    assert value(found, "cxr_refused_files_total", reason="other_file") == 1
    assert value(found, "cxr_batch_images_count") == 2
    assert value(found, "cxr_batch_images_sum") == 3
    assert value(found, "cxr_drift_images") == 3
    assert value(found, "process_resident_memory_bytes") > 0


def test_drift_is_that_of_a_scoring_run_with_the_last_images_as_its_batch(package: Package, scored: Path) -> None:
    rows = pd.concat([pd.read_parquet(part) for part in scored.glob("[!_]*/*.parquet")])
    measures = Measures(package)
    measures.count_rows(rows.to_dict("records"))
    found = samples(measures.text().decode())
    expected = compare(rows[rows["status"] == "ok"], package.images(), package.outputs)
    assert value(found, "cxr_drift_images") == 6
    for row in expected.to_dict("records"):
        labels = {"group": row["group"], "statistic": row["statistic"]}
        for column in ("effect", "p_value"):
            assert value(found, f"cxr_drift_{column}", **labels) == pytest.approx(row[column], nan_ok=True)


def test_only_the_last_images_are_remembered_and_of_them_only_numbers(package: Package, scored: Path) -> None:
    rows = pd.concat([pd.read_parquet(part) for part in scored.glob("[!_]*/*.parquet")])
    row = rows[rows["status"] == "ok"].iloc[0].to_dict()
    measures = Measures(package)
    measures.count_rows([row] * (N_RECENT + 5))
    text = measures.text().decode()
    assert value(samples(text), "cxr_drift_images") == N_RECENT
    assert value(samples(text), "cxr_images_total") == N_RECENT + 5
    kept = repr(vars(measures))
    assert row["path"] not in kept
    assert row["image_id"] not in kept


def test_later_labels_are_read_anew_each_time_and_damage_of_their_tables_hides_nothing_else(
    package: Package, home: Path, tmp_path: Path
) -> None:
    draw_scores(tmp_path / "scores", [True, False] * 10)
    folder = ScoresFolder.at(tmp_path / "scores").feedback("tiny")
    measures = Measures(package, folder)
    before = samples(measures.text().decode())
    assert math.isnan(value(before, "cxr_feedback_evidence"))
    assert not any(name in ("cxr_feedback_value", "cxr_feedback_verdict") for name, _ in before)
    (verdict,) = label_scores(home, tmp_path / "scores").to_dict("records")
    found = samples(measures.text().decode())
    assert value(found, "cxr_feedback_images", week="all") == value(found, "cxr_feedback_images", week="latest") == 20
    assert value(found, "cxr_feedback_promised_roc_auc") == pytest.approx(verdict["promised"])
    assert value(found, "cxr_feedback_evidence") == pytest.approx(verdict["evidence"])
    assert value(found, "cxr_feedback_judged_seconds") == verdict["judged_at"].timestamp()
    words = {dict(labels)["verdict"]: number for (name, labels), number in found.items() if name.endswith("_verdict")}
    assert words == dict.fromkeys(get_args(Word), 0.0) | {verdict["verdict"]: 1.0}
    table = files.read_table(folder.performance).query("week.isna()").set_index("metric")
    for metric in METRICS:
        for bound, column in (("value", "value"), ("low", "ci_low"), ("high", "ci_high")):
            shown = value(found, "cxr_feedback_value", week="all", metric=metric, bound=bound)
            assert shown == pytest.approx(table.loc[metric, column], nan_ok=True)
    folder.verdicts.write_bytes(b"damaged")
    damaged = samples(measures.text().decode())
    assert value(damaged, "cxr_images_total") == 0
    assert math.isnan(value(damaged, "cxr_feedback_evidence"))
