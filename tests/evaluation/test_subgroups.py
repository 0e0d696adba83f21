import pandas as pd
import pytest
from sklearn import metrics as sk

from cxr.evaluation.subgroups import most_confident_errors, subgroup_table
from tests.support.predictions import manifest_of, simulate


def test_subgroups_hold_the_metrics_of_their_images_alone() -> None:
    images = simulate()
    table = subgroup_table(images, manifest_of(images))
    truth, score = images.target == 1, images.probability[:, 1]
    virus = table.query("level == 'virus' and metric == 'roc_auc'").iloc[0]
    inside = ~truth | (images.predictions["subtype"] == "virus").to_numpy()
    assert virus["value"] == pytest.approx(sk.roc_auc_score(truth[inside], score[inside]))
    assert (virus["n"], virus["n_positive"]) == (inside.sum(), (inside & truth).sum())
    for name in ("image size", "contrast", "images of the patient", "split of the archive"):
        assert table.query("subgroup == @name and metric == 'accuracy'")["n"].sum() == len(truth), name


def test_errors_are_listed_from_the_most_confident_on() -> None:
    images = simulate()
    table = most_confident_errors(images, n_worst=3)
    assert (table["label"] != table["predicted"]).all()
    predicted = images.calibrated.argmax(axis=1)
    wrong = pd.Series(images.calibrated.max(axis=1))[(predicted != images.target) & (images.target == 0)]
    first = table.query("label == 'NORMAL'")["probability"].tolist()
    assert first == sorted(wrong, reverse=True)[:3]
