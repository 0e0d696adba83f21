"""What a monitor reads at /metrics: requests, seconds, refusals by reason, drift and later labels; no names.

Drift compares the last images with the reference images of the package, as a scoring run compares a batch. Of those
images only the numbers that are compared are remembered. What labels that came later say is read from the tables of
`cxr feedback` each time.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import pandas as pd
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from cxr.classes import Findings
from cxr.errors import CxrError, Reason
from cxr.feedback.performance import METRICS
from cxr.feedback.summary import by_week, performance_of, verdict_of
from cxr.feedback.verdicts import Word
from cxr.metrics.drift import ACQUISITION, compare
from cxr.serving.package import Package
from cxr.storage.scores_folder import FeedbackFolder

log = logging.getLogger(__name__)

N_RECENT = 1000
"""Images that drift looks at, at most."""
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Upper ends of the histograms' bins."""


class Measures:
    """Counts what the endpoint does.

    Args:
        package: the model, for its reference images.
        feedback: where labels that come later are; None if nobody says.
    """

    def __init__(self, package: Package, feedback: FeedbackFolder | None = None) -> None:
        self._version = package.version
        self._feedback = feedback
        self._outputs = package.outputs
        self._reference = package.images()
        decided = package.outputs.called_columns if isinstance(package.outputs, Findings) else ["predicted_label"]
        self._compared = [*ACQUISITION, "novelty", *package.outputs.probability_columns, *decided]
        self._recent: deque[list[Any]] = deque(maxlen=N_RECENT)
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        labels = ("path", "status")
        self._requests = Counter("cxr_requests", "Requests that were answered.", labels, registry=registry)
        self._seconds = Histogram(
            "cxr_request_seconds", "Seconds to an answer.", ("path",), buckets=SECONDS, registry=registry
        )
        self._images = Counter("cxr_images", "Images that were predicted.", registry=registry)
        self._refused = Counter("cxr_refused_files", "Files that are no usable image.", ("reason",), registry=registry)
        self._batches = Histogram("cxr_batch_images", "Images predicted together.", buckets=IMAGES, registry=registry)
        self._n_compared = Gauge("cxr_drift_images", "Images that drift looks at.", registry=registry)
        drift = ("group", "statistic")
        self._effect = Gauge(
            "cxr_drift_effect", "Size of a difference from the reference images.", drift, registry=registry
        )
        self._p_value = Gauge("cxr_drift_p_value", "Its p-value, corrected for their number.", drift, registry=registry)
        self._later = LaterLabels(registry)

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def count_batch(self, n_images: int) -> None:
        """Count a batch of images that were predicted together."""
        self._batches.observe(n_images)

    def count_refusal(self, reason: Reason) -> None:
        """Count a file for which a request was refused."""
        self._refused.labels(reason).inc()

    def count_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count the files of a request, given their rows of the scores."""
        for row in rows:
            if row["status"] == "ok":
                self._images.inc()
                self._recent.append([row[name] for name in self._compared])
            else:
                self._refused.labels(row["reason"]).inc()

    def text(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        recent = list(self._recent)
        self._n_compared.set(len(recent))
        if recent:
            images = pd.DataFrame(recent, columns=self._compared)
            for row in compare(images, self._reference, self._outputs).to_dict("records"):
                self._effect.labels(row["group"], row["statistic"]).set(row["effect"])
                self._p_value.labels(row["group"], row["statistic"]).set(row["p_value"])
        if self._feedback is not None:
            self._later.read(self._feedback, self._version)
        return generate_latest(self._registry)


class LaterLabels:
    """What labels that came later say of a version; nothing until some have come.

    Args:
        registry: of the metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._images = Gauge("cxr_feedback_images", "Labelled images.", ("week",), registry=registry)
        labels = ("week", "metric", "bound")
        self._value = Gauge("cxr_feedback_value", "A metric of labelled images.", labels, registry=registry)
        self._promised = Gauge("cxr_feedback_promised_roc_auc", "What the package promises.", (), registry=registry)
        self._evidence = Gauge("cxr_feedback_evidence", "That it is less; sure from 20.", (), registry=registry)
        self._verdict = Gauge("cxr_feedback_verdict", "1 for the verdict.", ("verdict",), registry=registry)
        self._judged = Gauge("cxr_feedback_judged_seconds", "Unix time of the verdict.", (), registry=registry)

    def read(self, folder: FeedbackFolder, version: str) -> None:
        """Set every gauge by what is in the tables now: over all weeks, and in the latest week."""
        self._images.clear()
        self._value.clear()
        self._verdict.clear()
        for gauge in (self._promised, self._evidence, self._judged):
            gauge.set(math.nan)
        try:
            verdict = verdict_of(folder, version)
            weeks = by_week(performance_of(folder, version)) if verdict else []
        except CxrError as error:
            log.warning("metrics: %s", error)
            return
        if verdict:
            self._set_verdict(verdict)
        for name, row in zip(("all", "latest"), weeks, strict=False):
            self._images.labels(name).set(row["n_images"])
            for metric in METRICS:
                for bound, value in zip(("value", "low", "high"), row[metric], strict=True):
                    self._value.labels(name, metric, bound).set(value)

    def _set_verdict(self, verdict: Mapping[str, Any]) -> None:
        for word in get_args(Word):
            self._verdict.labels(word).set(word == verdict["verdict"])
        for gauge, name in ((self._promised, "promised"), (self._evidence, "evidence")):
            gauge.set(math.nan if verdict[name] is None else verdict[name])
        self._judged.set(verdict["judged_at"].timestamp())
