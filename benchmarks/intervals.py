"""Intervals and tests, compared with those of other software on the same predictions.

    python -m benchmarks.intervals --run experiments/real64

- The bootstrap over patients is repeated by scipy (`scipy.stats.bootstrap`, percentile) with scikit-learn's metrics and
  curves, image by image and with draws of its own, for one run and for its difference from another (the same run with
  noise on its logits). DeLong's interval over patients is compared with it as well.
- Rates are compared with statsmodels' cluster-robust regression.
- DeLong's interval and test for independent images are compared with MLstatkit.
- The test of accuracy, each image its own patient, is compared with McNemar's, and slope and intercept of calibration,
  with statsmodels.

Two bootstraps of 2,000 replicates differ by chance. Their bounds may differ by a share of the interval's width that
chance explains, or by one step of a metric that takes few values, such as the sensitivity of eight images.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import statsmodels.api as sm
from MLstatkit import Delong_test
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import bootstrap
from sklearn import metrics as sk
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from benchmarks.results import keep
from cxr.classes import Classes
from cxr.evaluation import analyses
from cxr.evaluation.analyses import OperatingPointPredictions
from cxr.evaluation.on_request.comparison import compare, permute_runs
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.subgroups import METRICS as SUBGROUP_METRICS
from cxr.evaluation.subgroups import subgroup_table, subgroups
from cxr.evaluation.tables import metrics_table
from cxr.metrics.bootstrap import N_REPLICATES
from cxr.metrics.delong import auc_difference, auc_interval
from cxr.metrics.logistic import logistic_recalibration
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder

TAIL = 0.025
BY_CHANCE = 0.08
"""Four standard deviations: bounds of two bootstraps of 2,000 replicates differ by 0.02 of the interval's width, as a
standard deviation, and with fewer replicates by more."""
FEW = 0.16
"""The same where one of them has 500 replicates, as the bands of curves have."""
NEAR = 0.02
"""Four standard deviations: the share of replicates below a bound differs by 0.005, as a standard deviation."""
NORMAL = 0.16
"""An interval from a variance is symmetric; one from percentiles need not be."""
EXACT = 1e-6
DRAWN_TOGETHER = 50
"""Replicates that each statistic is computed of in turn."""
Statistic = Callable[[NDArray[np.int64]], list[float]]
RATES = (0.05, 0.1, 0.3)
"""False positive rates at which the band of the ROC curve is read; the recalls of the other curve are 1 minus these."""
NET_BENEFIT_AT = (0.2, 0.5, 0.8)
METRICS = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "sensitivity",
    "specificity",
    "f1",
    "roc_auc",
    "average_precision",
)
FOREST = ("roc_auc", "sensitivity", "specificity")
"""The metrics that are shown for each fold."""


class Compared(NamedTuple):
    """One of our numbers beside that of a peer, and how far apart they may be."""

    what: str
    peer: str
    ours: float
    theirs: float
    tolerance: float


def compare_intervals(images: OutOfFold, manifest: pd.DataFrame, n_replicates: int = N_REPLICATES) -> list[Compared]:
    """Return every kind of interval and test for two classes, ours beside those of the peers."""
    metrics = metrics_table(
        images.predictions.assign(
            **{f"probability_{c}": images.probability[:, k] for k, c in enumerate(images.classes)}
        ),
        images.classes,
    )
    ours, theirs = _intervals(images, metrics, manifest), dict(_statistics(images, manifest))
    scipys, wider = _bootstrap(images, theirs, n_replicates), np.sqrt((1 + N_REPLICATES / n_replicates) / 2)
    rows = [
        row
        for what, (low, high, tolerance) in ours.items()
        for row in _beside_scipy(what, (low, high), scipys[what], tolerance * wider)
    ]
    return [*rows, *_clustered(images, metrics), *_delong(images), *_tests(images)]


def _beside_scipy(
    what: str, ours: tuple[float, float], replicates: NDArray[np.float64], share: float
) -> Iterator[Compared]:
    tails = np.array([TAIL, 1 - TAIL])
    below, theirs, above = np.nanquantile(replicates, [tails - NEAR, tails, tails + NEAR])
    steps = np.maximum(theirs - below, above - theirs)
    for row, step in zip(_bounds(what, "scipy", ours, tuple(theirs), share), steps, strict=True):
        yield row._replace(tolerance=max(row.tolerance, step))


def _bounds(
    what: str, peer: str, ours: tuple[float, float], theirs: tuple[float, float], share: float
) -> Iterator[Compared]:
    tolerance = share * max(ours[1] - ours[0], theirs[1] - theirs[0])
    for bound, mine, other in zip(("low", "high"), ours, theirs, strict=True):
        yield Compared(f"{what}, {bound}", peer, mine, other, tolerance)


def _intervals(images: OutOfFold, metrics: pd.DataFrame, manifest: pd.DataFrame) -> dict[str, tuple[float, ...]]:
    """Return low, high and tolerance (a share of the width) of our intervals, by the name of the estimate."""
    values = analyses.predictive_value_table(images)
    auc = analyses.auc_table(images, metrics)
    tables = {
        "{metric}, {scope}": metrics[metrics["scope"].isin(["mean", "pooled"])],
        "{metric} in fold {fold}": metrics[(metrics["scope"] == "fold") & metrics["metric"].isin(FOREST)],
        "difference of {metric}": _differences(images),
        "{metric} at {operating_point}": analyses.operating_point_table(images),
        "{metric} at {operating_point}, {prevalence:.3f}": values,
        "{metric} in {subgroup} {level}": subgroup_table(images, manifest),
    }
    rows: list[tuple[str, Any]] = [
        (name, r) for name, table in tables.items() for r in table.dropna(subset="ci_low").to_dict("records")
    ]
    found = {name.format(**r): (r["ci_low"], r["ci_high"], BY_CHANCE) for name, r in rows}
    delong = auc[auc["interval"] == "DeLong"].to_dict("records")
    found |= {f"roc_auc, {r['scope']}, by DeLong": (r["ci_low"], r["ci_high"], NORMAL) for r in delong}
    return found | _bands(images)


def _differences(images: OutOfFold) -> pd.DataFrame:
    """Return the differences between the run's metrics and those of the same run with noise, as `cxr compare` does."""
    with tempfile.TemporaryDirectory() as place:
        runs = [RunFolder(Path(place) / name) for name in ("run", "noisy")]
        for run, score in zip(runs, (images.probability[:, 1], expit(_noisy(images))), strict=True):
            verified.write_json(run.config, {"format": files.FORMAT, "classes": images.classes, "config": {}})
            columns = {f"probability_{c}": p for c, p in zip(images.classes, (1 - score, score), strict=True)}
            verified.write_table(run.predictions, images.predictions.assign(**columns))
        return compare(runs).metrics


def _noisy(images: OutOfFold) -> NDArray[np.float64]:
    """Return the logits of another, worse run on the same images."""
    score = images.probability[:, 1].clip(1e-9, 1 - 1e-9)
    return logit(score) + np.random.default_rng(1).normal(0, 1, len(score))


def _bands(images: OutOfFold) -> dict[str, tuple[float, ...]]:
    curves, found = analyses.curve_tables(images), {}
    pooled = {name: table[table["fold"].isna()] for name, table in curves.items()}
    for rate in RATES:
        at = pooled["roc"].iloc[(pooled["roc"]["false_positive_rate"] - rate).abs().argmin()]
        found[f"ROC at {rate}"] = at["ci_low"], at["ci_high"], FEW
        at = pooled["precision_recall"].iloc[(pooled["precision_recall"]["recall"] - (1 - rate)).abs().argmin()]
        found[f"precision at recall {1 - rate}"] = at["ci_low"], at["ci_high"], FEW
    benefit = analyses.decision_table(images).set_index("threshold")
    for threshold in NET_BENEFIT_AT:
        at = benefit.loc[threshold]
        found[f"net benefit at {threshold}"] = at["ci_low"], at["ci_high"], BY_CHANCE
    bins = analyses.reliability_table(images).query("stage == 'after'")
    return found | {
        f"reliability bin {k}": (r["ci_low"], r["ci_high"], BY_CHANCE) for k, r in enumerate(bins.to_dict("records"))
    }


def _statistics(
    images: OutOfFold, manifest: pd.DataFrame
) -> Iterator[tuple[str, Callable[[NDArray[np.int64]], float]]]:
    """Yield the estimates of our intervals, computed by scikit-learn from the rows of the images that were drawn."""
    truth, score, calibrated = images.target == 1, images.probability[:, 1], images.calibrated[:, 1]
    predicted, noisy = score >= 0.5, expit(_noisy(images))
    everywhere, folds = np.full(len(truth), fill_value=True), np.unique(images.fold)
    for metric in METRICS:
        pooled = _metric(metric, truth, predicted, score, everywhere)
        parts = [_metric(metric, truth, predicted, score, images.fold == k) for k in folds]
        mean = partial(_mean, parts)
        yield f"{metric}, pooled", pooled
        yield f"{metric}, mean", mean
        if metric == "roc_auc":
            yield from (("roc_auc, pooled, by DeLong", pooled), ("roc_auc, mean, by DeLong", mean))
        if metric in FOREST:
            yield from ((f"{metric} in fold {fold}", part) for fold, part in zip(folds, parts, strict=True))
        other = _metric(metric, truth, noisy >= 0.5, noisy, everywhere)
        yield f"difference of {metric}", lambda rows, one=pooled, other=other: other(rows) - one(rows)
    for point in analyses.operating_points(images):
        for metric in analyses.RATES:
            yield f"{metric} at {point.name}", _metric(metric, truth, point.predicted, calibrated, everywhere)
        for prevalence in (*analyses.PREVALENCES, float(truth.mean())):
            for value in ("ppv", "npv"):
                yield f"{value} at {point.name}, {prevalence:.3f}", _predictive(value, truth, point, prevalence)
    for subgroup, level, inside in subgroups(images, manifest, truth):
        for metric in SUBGROUP_METRICS:
            yield f"{metric} in {subgroup} {level}", _metric(metric, truth, predicted, score, inside)
    yield from _curve_statistics(truth, score, calibrated)


def _mean(parts: Sequence[Callable[[NDArray[np.int64]], float]], rows: NDArray[np.int64]) -> float:
    return float(np.mean([part(rows) for part in parts]))


def _metric(metric: str, truth: Any, predicted: Any, score: Any, inside: NDArray[np.bool_]) -> Any:
    undefined: Any = {"zero_division": np.nan}
    compute = {
        "accuracy": lambda t, c, _: sk.accuracy_score(t, c),
        "balanced_accuracy": lambda t, c, _: sk.balanced_accuracy_score(t, c),
        "precision": lambda t, c, _: sk.precision_score(t, c, **undefined),
        "sensitivity": lambda t, c, _: sk.recall_score(t, c, **undefined),
        "specificity": lambda t, c, _: sk.recall_score(t, c, pos_label=False, **undefined),
        "f1": lambda t, c, _: sk.f1_score(t, c, **undefined),
        "roc_auc": lambda t, _, s: sk.roc_auc_score(t, s) if 0 < t.sum() < len(t) else np.nan,
        "average_precision": lambda t, _, s: sk.average_precision_score(t, s) if t.any() else np.nan,
    }[metric]

    @lru_cache(maxsize=DRAWN_TOGETHER)  # several statistics are of the same metric
    def of(drawn: bytes) -> float:
        rows = np.frombuffer(drawn, np.int64)
        kept = rows[inside[rows]]
        return float(compute(truth[kept], predicted[kept], score[kept])) if len(kept) else np.nan

    return lambda rows: of(rows.tobytes())


def _predictive(value: str, truth: NDArray[np.bool_], point: OperatingPointPredictions, prevalence: float) -> Any:
    def of(rows: NDArray[np.int64]) -> float:
        sick, positive = truth[rows], point.predicted[rows]
        weight = np.where(sick, prevalence / sick.mean(), (1 - prevalence) / (1 - sick.mean()))
        right, label = (sick, True) if value == "ppv" else (~sick, False)
        chosen = positive == label
        return float(np.average(right[chosen], weights=weight[chosen])) if chosen.any() else np.nan

    return of


def _curve_statistics(truth: Any, score: Any, calibrated: Any) -> Iterator[tuple[str, Any]]:
    def sensitivity(rows: NDArray[np.int64], rate: float) -> float:
        x, y, _ = sk.roc_curve(truth[rows], score[rows])
        return float(y[x == rate].max() if (x == rate).any() else np.interp(rate, x, y))

    def precision(rows: NDArray[np.int64], recall: float) -> float:
        y, x, _ = sk.precision_recall_curve(truth[rows], score[rows])
        return float(y[np.flatnonzero(x >= recall - 1e-12)[-1]])

    def net_benefit(rows: NDArray[np.int64], threshold: float) -> float:
        _, fp, _, tp = sk.confusion_matrix(truth[rows], calibrated[rows] >= threshold, labels=[False, True]).ravel()
        return float((tp - fp * threshold / (1 - threshold)) / len(rows))

    for rate in RATES:
        yield f"ROC at {rate}", lambda rows, rate=rate: sensitivity(rows, rate)
        yield f"precision at recall {1 - rate}", lambda rows, rate=rate: precision(rows, 1 - rate)
    for threshold in NET_BENEFIT_AT:
        yield f"net benefit at {threshold}", lambda rows, threshold=threshold: net_benefit(rows, threshold)
    bin_of = pd.qcut(calibrated, 10, labels=False, duplicates="drop")
    for k in range(bin_of.max() + 1):
        yield f"reliability bin {k}", lambda rows, k=k: float(truth[rows[bin_of[rows] == k]].mean())


def _bootstrap(images: OutOfFold, statistics: dict[str, Any], n_replicates: int) -> dict[str, NDArray[np.float64]]:
    """Return scipy's replicates of all statistics, each of shape (R,), patients drawn with replacement."""
    order = np.argsort(images.group, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(images.group[order])) + 1)

    def of_drawn(patients: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        drawn = [np.concatenate([members[p] for p in one]) for one in np.atleast_2d(patients)]
        values = np.array([[of(rows) for rows in drawn] for of in statistics.values()])
        return values if patients.ndim > 1 else values[:, 0]

    result = bootstrap(
        (np.arange(len(members)),),
        of_drawn,
        n_resamples=n_replicates,
        batch=DRAWN_TOGETHER,
        vectorized=True,
        method="percentile",
        rng=1,
    )
    return dict(zip(statistics, result.bootstrap_distribution, strict=True))


def _clustered(images: OutOfFold, metrics: pd.DataFrame) -> Iterator[Compared]:
    """Yield rates beside those of a regression on a constant with cluster-robust variance."""
    truth, predicted = images.target == 1, images.probability[:, 1] >= 0.5
    known: Any = metrics[metrics["scope"] == "pooled"].set_index("metric").to_dict("index")
    parts = {
        "accuracy": (np.full(len(truth), fill_value=True), predicted == truth),
        "sensitivity": (truth, predicted),
        "specificity": (~truth, ~predicted),
    }
    for metric, (inside, right) in parts.items():
        clusters = {"groups": images.group[inside]}
        fitted = sm.OLS(right[inside].astype(float), np.ones(inside.sum())).fit(cov_type="cluster", cov_kwds=clusters)
        low, high = fitted.conf_int()[0]
        mine = known[metric]["ci_low"], known[metric]["ci_high"]
        yield from _bounds(f"{metric}, pooled", "statsmodels, cluster-robust", mine, (low, high), NORMAL)


def _delong(images: OutOfFold) -> Iterator[Compared]:
    """Yield DeLong's interval and test for independent images beside MLstatkit's; the other scores are noisy ones."""
    truth, score, other = images.target == 1, images.probability[:, 1], _noisy(images)
    _, p_value, interval, _ = Delong_test(truth, score, other, return_auc=False)
    alone = np.arange(len(truth))
    yield from _bounds("roc_auc, DeLong", "MLstatkit", auc_interval(truth, score, alone), interval, EXACT)
    yield Compared("p of DeLong's test", "MLstatkit", auc_difference(truth, score, other, alone)[1], p_value, EXACT)


def _tests(images: OutOfFold) -> Iterator[Compared]:
    """Yield the test of accuracy, slope and intercept beside statsmodels'."""
    truth, score = images.target == 1, images.probability[:, 1].clip(1e-9, 1 - 1e-9)
    right = pd.DataFrame({"before": (score >= 0.5) == truth, "after": (_noisy(images) >= 0) == truth})
    tested: Any = statsmodels_mcnemar(pd.crosstab(right["before"], right["after"]), exact=True)
    ours_p = permute_runs(right["before"].to_numpy(), right["after"].to_numpy(), np.arange(len(truth)))
    yield Compared("p of the permutation test", "statsmodels", ours_p, tested.pvalue, 0.01)
    fitted = sm.GLM(truth.astype(float), sm.add_constant(logit(score)), family=sm.families.Binomial()).fit()
    ours = logistic_recalibration(truth, score, np.arange(len(truth)))
    for name, theirs in zip(("intercept", "slope"), fitted.params, strict=True):
        yield Compared(f"calibration {name}", "statsmodels", ours[name][0], theirs, 1e-4)


def main() -> None:
    """Compare on a run's predictions, print what disagrees, keep the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of two classes")
    parser.add_argument("--replicates", type=int, default=N_REPLICATES, help="of scipy's bootstrap, which is slow")
    options = parser.parse_args()
    folder = RunFolder(options.run.resolve())
    images = OutOfFold(verified.read_table(folder.predictions), Classes(verified.read_record(folder.config)["classes"]))
    rows = pd.DataFrame(compare_intervals(images, verified.read_table(folder.manifest), options.replicates))
    rows["share"] = (rows["ours"] - rows["theirs"]).abs() / rows["tolerance"]
    print(rows.sort_values("share", ascending=False).head(20).to_string(index=False))
    by_peer = rows.groupby("peer")["share"].agg(["size", "max"])
    figures = {f"{peer}: numbers compared": int(row["size"]) for peer, row in by_peer.iterrows()}
    figures["replicates of scipy's"] = options.replicates
    figures |= {f"{peer}: largest gap, of what is allowed": round(row["max"], 2) for peer, row in by_peer.iterrows()}
    keep("intervals", {"run": folder.run_id, "n_images": len(images.predictions), **figures})
    raise SystemExit(bool((rows["share"] > 1).any()))


if __name__ == "__main__":
    main()
