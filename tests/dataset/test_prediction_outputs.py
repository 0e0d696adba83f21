"""Which columns of a table are outputs; what whole files give is in `test_predictions`."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from cxr.classes import Classes
from cxr.dataset.prediction_outputs import LEAST, Outputs, find_outputs
from cxr.errors import ConfigError, DataError
from cxr.labels.tables import Table
from cxr.prediction_columns import PredictionColumns

LABELS = ["a", "b", "c"] * 4
SHARES = np.random.default_rng(0).dirichlet(np.ones(3), len(LABELS))
PATHS = [f"{k}.png" for k in range(len(LABELS))]


def found(columns: dict[str, object], labels: list[str] = LABELS, **options: object) -> Outputs:
    texts = pd.DataFrame({"path": PATHS} | columns).astype("str")
    table = Table("p.csv", texts, "0" * 64)
    return find_outputs(table, pd.Series(labels), PredictionColumns(**options), "path")


@pytest.mark.parametrize("prefix", ["probability_", "prob_", "proba_", ""])
def test_columns_that_are_named_after_the_classes_are_their_probabilities(prefix: str) -> None:
    outputs = found({f"{prefix}{name}": SHARES[:, k] for k, name in enumerate("abc")})
    assert (outputs.kind, outputs.names, outputs.single) == ("probability", ["a", "b", "c"], None)
    np.testing.assert_allclose(outputs.values.to_numpy(), SHARES)


def test_logits_come_before_probabilities_and_give_their_softmax() -> None:
    logits = np.random.default_rng(1).normal(size=(len(LABELS), 3))
    columns = {f"logit_{name}": logits[:, k] for k, name in enumerate("abc")}
    columns |= {f"probability_{name}": softmax(logits, axis=1)[:, k] for k, name in enumerate("abc")}
    outputs = found(columns)
    assert outputs.kind == "logit"
    table = outputs.table(Classes("cab"))
    assert table.columns.tolist() == [f"{kind}_{name}" for kind in ("logit", "probability") for name in "cab"]
    np.testing.assert_allclose(table[["probability_a", "probability_b"]], softmax(logits, axis=1)[:, :2])
    assert outputs.n_certain(Classes("cab")) == 0


def test_the_logit_of_a_probability_is_its_logarithm_finite_also_for_0() -> None:
    shares = SHARES.copy()
    shares[0] = (0, 0.25, 0.75)
    outputs = found({name: shares[:, k] for k, name in enumerate("abc")})
    table = outputs.table(Classes("abc"))
    assert outputs.n_certain(Classes("abc")) == 1
    assert table.loc[0, "logit_a"] == np.log(LEAST)
    np.testing.assert_allclose(softmax(table[["logit_a", "logit_b", "logit_c"]], axis=1), shares, atol=1e-14)


def test_one_of_two_classes_gives_the_other() -> None:
    p = np.linspace(0.1, 0.9, 12)
    outputs = found({"p": p}, ["a", "b"] * 6, probability_column=("b=p",))
    assert (outputs.single, outputs.columns) == ("b", {"b": "p"})
    np.testing.assert_allclose(outputs.values["a"], 1 - p)


@pytest.mark.parametrize(
    ("columns", "options", "kind", "sentence"),
    [
        ({"p": 0.1}, {"probability_column": ("a=p", "a=p")}, ConfigError, "names class 'a' twice: give each class one"),
        ({"p": 0.1}, {"logit_column": ("=p",)}, ConfigError, r"--logit-column must look like PNEUMONIA=COLUMN"),
        ({"prob_a": 0.1, "proba_b": 0.1}, {}, ConfigError, "'prob_a' and 'proba_b' may both be probabilities"),
        (
            {"index_0": 1, "prob_0": 0.9},
            {},
            ConfigError,
            "column 'index_0' says that 'p.csv' ranks the classes in each",
        ),
        ({"y_prob": 0.1}, {}, ConfigError, "column 'y_prob' does not say of which class it is the probability"),
        ({"prob_a": 0.5, "prob_b": 0.5}, {}, DataError, r"label 'c' \(4 rows, such as '2.png'\) has no column"),
        ({"prob_a": 0.5, "prob_A": 0.5}, {}, DataError, "the classes 'A' and 'a' differ only in letter case"),
        ({"prob_a": 0.5, "prob_macro": 0.5}, {}, DataError, "a class cannot be named 'macro'"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(
    columns: dict[str, object], options: dict[str, object], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        found(columns, **options)
