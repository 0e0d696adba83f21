import pandas as pd
import pytest
from sklearn import metrics as sk

from cxr.evaluation.subgroups import failure_table, subgroup_table
from tests.evaluation.test_analyses import manifest_of, simulate


def test_subgroups_hold_the_metrics_of_their_films_alone() -> None:
    films = simulate()
    table = subgroup_table(films, manifest_of(films))
    truth, score = films.target == 1, films.probability[:, 1]
    virus = table.query("level == 'virus' and metric == 'roc_auc'").iloc[0]
    inside = ~truth | (films.predictions["subtype"] == "virus").to_numpy()
    assert virus["value"] == pytest.approx(sk.roc_auc_score(truth[inside], score[inside]))
    assert (virus["n"], virus["n_positive"]) == (inside.sum(), (inside & truth).sum())
    for name in ("film size", "contrast", "films of the patient", "split of the archive"):
        assert table.query("subgroup == @name and metric == 'accuracy'")["n"].sum() == len(truth), name


def test_failures_are_the_surest_errors_first() -> None:
    films = simulate()
    table = failure_table(films, n_worst=3)
    assert (table["label"] != table["called"]).all()
    called = films.calibrated.argmax(axis=1)
    wrong = pd.Series(films.calibrated.max(axis=1))[(called != films.target) & (films.target == 0)]
    first = table.query("label == 'NORMAL'")["probability"].tolist()
    assert first == sorted(wrong, reverse=True)[:3]
