import numpy as np
import pandas as pd
import pytest

from benchmarks.threshold_rules import at_threshold, gains, judged, rates, safest
from cxr.classes import Classes
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.bootstrap import Replicates


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
    assert table["worst_youden"].tolist() == pytest.approx([0.6, 0.5])
    assert table["mean_youden"].tolist() == pytest.approx([0.7, 0.75])


def test_the_gain_of_a_rule_is_that_over_the_default_in_the_same_draws_of_patients() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random(240) < 0.5
    predictions = pd.DataFrame({"label": np.where(truth, "B", "A"), "fold": np.arange(240) % 3, "logit_A": 0.0})
    predictions["logit_B"] = 2.0 * truth + generator.normal(0, 1, 240) + 4  # equal logits predict B nearly always
    predictions["group_id"] = [f"patient {number // 2}" for number in range(240)]
    group = predictions["group_id"].factorize()[0]

    each_once = OutOfFold(predictions, Classes(("A", "B")), Replicates(group, np.ones((2, 120))))
    worst = judged(pd.DataFrame(rates(each_once, np.arange(240)))).set_index("rule")["worst_youden"]
    found = gains(each_once).set_index("rule")
    for rule, gain in (worst - worst["youden"]).items():
        assert found.loc[rule].tolist() == pytest.approx([gain, gain], abs=1e-4)

    drawn = generator.multinomial(120, np.full(120, 1 / 120), 20).astype(float)
    found = gains(OutOfFold(predictions, Classes(("A", "B")), Replicates(group, drawn))).set_index("rule")
    assert found.loc["youden"].tolist() == [0, 0]
    assert found.loc["balanced", "gain_low"] < found.loc["balanced", "gain_high"] < 0
