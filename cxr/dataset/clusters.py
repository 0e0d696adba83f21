"""Clusters of images acquired alike: what each fold leaves out with `--leave-out cluster`.

Folds of patients at random hold out images like those trained on; images of the next site are unlike them. So here a
fold leaves out images of like size, shape, storage, grey levels and series, which imitates another site within one data
set.

In many sets the classes are acquired differently, and a cluster of all images may hold next to none of a class: it has
no ROC-AUC, and what is left for training may lack the class. Then each class is clustered by itself, and the clusters
of the classes are paired, nearest to nearest. Either way a scanner that the classes share is left out for all of them
at once. A group (patient) goes to a cluster as a whole, by the mean of its images.

Source: k-means of scikit-learn; numbers are scaled to be comparable with categories as in Gelman, Scaling regression
inputs by dividing by two standard deviations, Stat Med 2008.
"""

import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cxr.errors import FoldError

if TYPE_CHECKING:
    from sklearn.cluster import KMeans

log = logging.getLogger(__name__)

NUMBERS = ["pixels", "aspect", "bytes_per_pixel", "mean", "contrast", "border", "dark_share", "bright_share", "chroma"]
"""Measures of an image that are numbers; the others are categories."""
RATIOS = ["pixels", "aspect", "bytes_per_pixel"]
"""Numbers whose logarithm is clustered."""
FREQUENT_SHARE = 0.05
"""Rarer categories do not count: they would be clusters of a few images."""
OUTLYING_SHARE = 0.01
"""Numbers beyond this quantile of their class, at either end, count as the quantile."""
ROUNDING = 1e-9
"""A number that varies less does not vary."""
LEAST_SHARE = 0.25
"""A cluster has at least this share of the groups of a class that it would have if all were of one size."""


def measure_acquisition(images: pd.DataFrame) -> pd.DataFrame:
    """Return what is known of each image's acquisition without looking at its content, in the order of `images`.

    Columns: NUMBERS (aspect is width over height), and a column of 0 and 1 for each frequent category: how the image is
    stored, such as `stored as RGB, 8 bits`, and what its patient id has before its number, such as `series IM-`.

    Args:
        images: rows of the manifest; width, height, n_bytes, mode, bits, patient_id and the vital signs are used.
    """
    width, height = images["width"].astype(float), images["height"].astype(float)
    ratios = {"pixels": width * height, "aspect": width / height, "bytes_per_pixel": images["n_bytes"] / width / height}
    levels = images[[name for name in NUMBERS if name not in RATIOS]].astype(float)
    stored = images["mode"].astype("string") + ", " + images["bits"].astype("string") + " bits"
    series = images["patient_id"].astype("string").str.replace(r"\d+$", "", regex=True)
    categories = [_indicators(stored, "stored as"), _indicators(series, "series")]
    return pd.concat([pd.DataFrame(ratios, index=images.index), levels, *categories], axis=1)


def _indicators(values: pd.Series, prefix: str) -> pd.DataFrame:
    """Return a column of 0 and 1 for each frequent value."""
    share = values.value_counts(normalize=True, dropna=False)
    frequent = share.index[share >= FREQUENT_SHARE].dropna()
    return pd.get_dummies(values.where(values.isin(frequent)), prefix=prefix, prefix_sep=" ", dtype=float)


def assign_clusters(images: pd.DataFrame, n_clusters: int, seed: int) -> NDArray[np.int32]:
    """Return the cluster of each image, shape (n,), from 0, the largest.

    Every cluster has groups of every class, and all images of a group are in one cluster. A group counts as one of the
    class that most of its images have.

    Args:
        images: rows of the manifest, as for `measure_acquisition`, with label and group_id.
        n_clusters: how many clusters.
        seed: of k-means.

    Raises:
        FoldError: too few groups of a class differ in how they were acquired.
    """
    label = main_labels(images)
    measures = _measure_groups(images, label)
    for name in sorted(images["label"].unique()):
        _require_different(measures[label == name], name, n_clusters)
    with threadpool_limits(1):  # sums in another order would be other bits
        cluster = _cluster_together(measures, label, n_clusters, seed)
        if cluster is None:
            log.info("the classes are acquired differently: each is clustered by itself, and the nearest are paired")
            cluster = _cluster_by_class(measures, label, n_clusters, seed)
    of_image = images["group_id"].map(cluster)
    rank = of_image.value_counts().sort_index().rank(ascending=False, method="first") - 1
    return of_image.map(rank).to_numpy().astype(np.int32)


def _cluster_together(measures: pd.DataFrame, label: pd.Series, n_clusters: int, seed: int) -> pd.Series | None:
    """Return the cluster of each group, the classes weighing alike; None if a cluster has too few groups of a class."""
    occurs = (measures != 0).groupby(label).any().sum()
    of_one_class = [name for name in occurs.index[occurs == 1] if name not in NUMBERS]  # such as a series of its own
    points = _scaled(measures.drop(columns=of_one_class), label).to_numpy()
    weight = 1 / label.map(label.value_counts()).to_numpy()
    assigned = np.asarray(_k_means(n_clusters, seed).fit(points, sample_weight=weight).labels_)
    sizes = pd.crosstab(label, assigned)
    least = [_least(n, n_clusters) for n in sizes.sum(axis=1)]
    has_all = sizes.shape[1] == n_clusters and sizes.ge(least, axis=0).all(axis=None)
    return pd.Series(assigned, index=label.index) if has_all else None


def _cluster_by_class(measures: pd.DataFrame, label: pd.Series, n_clusters: int, seed: int) -> pd.Series:
    """Return the cluster of each group: each class by itself, paired with the nearest clusters of the largest class."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    common = _scaled(measures, label)
    reference: NDArray[np.float64] | None = None
    clusters = []
    for name in label.value_counts().sort_index().sort_values(ascending=False, kind="stable").index:
        of_class = label.index[label == name]
        points = _scaled(measures.loc[of_class], label[of_class]).to_numpy()
        centres = _k_means(n_clusters, seed).fit(points).cluster_centers_
        assigned = _assign_nearest(cdist(points, centres), _least(len(points), n_clusters))
        means = common.loc[of_class].groupby(assigned).mean().to_numpy()
        reference = means if reference is None else reference
        _, partner = linear_sum_assignment(cdist(means, reference))
        clusters.append(pd.Series(partner[assigned], index=of_class))
    return pd.concat(clusters)


def _k_means(n_clusters: int, seed: int) -> "KMeans":
    from sklearn.cluster import KMeans  # takes long, and only `--leave-out cluster` needs it

    options: dict[str, Any] = {"n_init": 10, "random_state": seed}
    return KMeans(n_clusters, **options)


def _least(n_groups: int, n_clusters: int) -> int:
    return max(1, int(LEAST_SHARE * n_groups / n_clusters))


def main_labels(images: pd.DataFrame) -> pd.Series:
    """Return the class that most images of each group have, by group_id; of several such classes the rarest."""
    counts = pd.crosstab(images["group_id"], images["label"])
    rarest_first = counts.sum().sort_values(kind="stable").index
    return counts[rarest_first].idxmax(axis=1)


def _measure_groups(images: pd.DataFrame, label: pd.Series) -> pd.DataFrame:
    """Return a row per group, by group_id, with the mean of each measure and without outliers among the numbers."""
    measures = measure_acquisition(images)
    measures[RATIOS] = np.log(measures[RATIOS])
    groups = measures.groupby(images["group_id"]).mean().loc[label.index]
    by_class = groups[NUMBERS].groupby(label)
    low, high = (by_class.transform("quantile", q) for q in (OUTLYING_SHARE, 1 - OUTLYING_SHARE))
    return pd.concat([groups[NUMBERS].clip(low, high), groups.drop(columns=NUMBERS)], axis=1)


def _scaled(measures: pd.DataFrame, label: pd.Series) -> pd.DataFrame:
    """Return the measures so that a change of category, or by two standard deviations, is a distance of 1.

    Standard deviations are those within the classes; a number that is the same within each class is left out.
    """
    numbers = measures[NUMBERS]
    spread = (numbers - numbers.groupby(label).transform("mean")).pow(2).mean().pow(0.5)
    varying = spread.index[spread > ROUNDING]
    return pd.concat([numbers[varying] / (2 * spread[varying]), measures.drop(columns=NUMBERS) / math.sqrt(2)], axis=1)


def _require_different(measures: pd.DataFrame, name: object, n_clusters: int) -> None:
    n_different = len(measures.drop_duplicates())
    if n_different < n_clusters:
        fewer = f"--folds {n_different} or less, or " if n_different > 1 else ""
        raise FoldError(
            f"class {name!r} has {n_different} groups of images (patients) that differ in how they were acquired, "
            f"fewer than the {n_clusters} folds that each leave out a cluster: give {fewer}--leave-out patient."
        )


def _assign_nearest(distance: NDArray[np.floating], least: int) -> NDArray[np.int64]:
    """Return the nearest cluster of each group, shape (n,); one with fewer than `least` takes in what is next to it.

    Args:
        distance: of each group from each cluster's centre, shape (n, n_clusters).
        least: at most n / n_clusters.
    """
    assigned = distance.argmin(axis=1)
    groups = np.arange(len(distance))
    for cluster in range(distance.shape[1]):
        while (sizes := np.bincount(assigned, minlength=distance.shape[1]))[cluster] < least:
            detour = distance[:, cluster] - distance[groups, assigned]
            detour[sizes[assigned] <= least] = np.inf
            assigned[detour.argmin()] = cluster
    return assigned
