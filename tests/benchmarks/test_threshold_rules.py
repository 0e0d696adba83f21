import numpy as np
import pandas as pd

from benchmarks.threshold_rules import at_threshold, judged, safest


def test_the_safest_threshold_is_the_one_that_trying_all_of_them_finds() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random(300) < 0.6
    cluster = generator.integers(0, 3, 300)
    probability = np.clip(0.4 + 0.2 * truth + 0.1 * cluster + generator.normal(0, 0.2, 300), 0, 1).round(2)
    worst = {
        threshold: min(
            sum(at_threshold(probability[of], truth[of], threshold)) for of in (cluster == k for k in range(3))
        )
        for threshold in np.unique(probability)
    }
    found = safest(probability, truth, cluster)
    assert worst[found] == max(worst.values())


def test_a_rule_is_judged_by_its_own_worst_cluster() -> None:
    rows = [("a", 0, 0.9, 0.9), ("a", 1, 0.8, 0.8), ("b", 0, 1.0, 1.0), ("b", 1, 1.0, 0.5)]
    table = judged(pd.DataFrame(rows, columns=["rule", "cluster", "sensitivity", "specificity"]))
    assert table["rule"].tolist() == ["a", "b"]
    assert table["worst_youden"].tolist() == [0.6, 0.5]
    assert table["mean_youden"].tolist() == [0.7, 0.75]
