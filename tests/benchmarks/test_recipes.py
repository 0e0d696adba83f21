import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.recipes import gain
from cxr.classes import Classes
from cxr.evaluation.out_of_fold import OutOfFold


def predicted(noise: float) -> OutOfFold:
    """Images in two folds, two of each patient, whose logits are more or less noisy."""
    generator = np.random.default_rng(1)
    truth, fold = generator.random(400) < 0.5, np.arange(400) // 2 % 2
    table = pd.DataFrame({"label": np.where(truth, "B", "A"), "fold": fold, "logit_A": 0.0})
    table["logit_B"] = truth + noise * generator.normal(0, 1, 400)
    table["image_id"] = [f"image {number}" for number in range(400)]
    table["group_id"] = [f"patient {number // 2}" for number in range(400)]
    return OutOfFold(table, Classes(("A", "B")))


def test_a_recipe_gains_what_its_mean_roc_auc_over_folds_is_above_that_of_the_base() -> None:
    base, better = predicted(2.0), predicted(0.5)
    mean = [
        np.mean([roc_auc_score(each.target[part], each.logits[part, 1]) for part in (each.fold == 0, each.fold == 1)])
        for each in (base, better)
    ]
    found = gain(base, better)
    assert found["gain"] == pytest.approx(mean[1] - mean[0], abs=1e-4)
    assert 0 < found["ci_low"] < found["gain"] < found["ci_high"]
    assert gain(base, base) == {"gain": 0, "ci_low": 0, "ci_high": 0}


def test_recipes_are_compared_on_the_same_images_alone() -> None:
    base = predicted(1.0)
    fewer = OutOfFold(base.predictions.iloc[1:].reset_index(drop=True), base.classes)
    with pytest.raises(RuntimeError, match="needs the same images in the same folds"):
        gain(base, fewer)
