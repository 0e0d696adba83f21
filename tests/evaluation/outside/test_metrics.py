import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from cxr.classes import Classes, Findings
from cxr.errors import DataError
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.outside.metrics import COLUMNS, LIKELIEST, outside_metrics
from tests.support.predictions import simulate

INSIDE = simulate(300)


def outside(classes: Classes, seed: int = 7) -> pd.DataFrame:
    """Images of a test set, predicted."""
    images = simulate(200, classes=classes, seed=seed)
    probability = dict(zip(classes.probability_columns, images.probability.T, strict=True))
    return images.predictions[["group_id", "label"]].assign(**probability)


def test_the_thresholds_from_inside_are_applied_unchanged() -> None:
    images = outside(INSIDE.classes)
    table = outside_metrics(images, INSIDE)
    assert table.columns.tolist() == COLUMNS
    assert set(table["class"]) == {"PNEUMONIA"}
    truth, score = images["label"] == "PNEUMONIA", images["probability_PNEUMONIA"]
    values = table.set_index(["operating_point", "metric"])
    for point, threshold in INSIDE.thresholds.items():
        assert values.loc[(point, "sensitivity"), "threshold"] == threshold
        assert values.loc[(point, "sensitivity"), "value"] == pytest.approx(recall_score(truth, score >= threshold))
        assert values.loc[(point, "roc_auc"), "value"] == pytest.approx(roc_auc_score(truth, score))
    assert (table["n"] == 200).all()
    inner = table.dropna(subset="value")
    assert ((inner["ci_low"] <= inner["value"]) & (inner["value"] <= inner["ci_high"])).all()


def test_more_than_two_classes_have_the_metrics_of_the_most_probable_one() -> None:
    classes = Classes("abc")
    images = outside(classes)
    table = outside_metrics(images, simulate(300, classes=classes))
    assert set(table["operating_point"]) == {LIKELIEST}
    assert table["threshold"].isna().all()
    predicted = np.asarray(classes)[images[classes.probability_columns].to_numpy().argmax(axis=1)]
    accuracy = table[(table["metric"] == "accuracy") & table["class"].isna()]["value"].item()
    assert accuracy == pytest.approx((predicted == images["label"]).mean())


def of_findings(images: pd.DataFrame) -> pd.DataFrame:
    """Return simulated images of two classes as images of two findings, the second known in every other image."""
    present = pd.Series(pd.array(images["label"] == "PNEUMONIA", "boolean"), images.index)
    columns = {"finding_A": present, "finding_B": present.mask(images.index % 2 == 0)}
    scores = {f"{kind}_{name}": images[f"{kind}_PNEUMONIA"] for kind in ("logit", "probability") for name in "AB"}
    return images.assign(**columns, **scores)


def test_each_finding_is_evaluated_where_it_is_known_and_one_that_is_nowhere_known_is_refused() -> None:
    probability = pd.DataFrame(INSIDE.probability, columns=INSIDE.classes.probability_columns)
    inside = of_findings(pd.concat([INSIDE.predictions, probability], axis=1))
    findings = FindingsOutOfFold(inside, Findings("AB"))
    images = of_findings(outside(INSIDE.classes).assign(logit_PNEUMONIA=0.0))
    table = outside_metrics(images, findings)
    n = table.groupby("class")["n"].first()
    assert n.to_dict() == {"A": 200, "B": 100}
    auc = table[(table["class"] == "B") & (table["metric"] == "roc_auc")]["value"]
    known = images[images["finding_B"].notna()]
    expected = roc_auc_score(known["label"] == "PNEUMONIA", known["probability_B"])
    assert auc.tolist() == pytest.approx([expected] * len(auc))
    with pytest.raises(DataError, match="finding 'B' is known in no image of the test set: give one with labels of it"):
        outside_metrics(images.assign(finding_B=pd.array([pd.NA] * len(images), "boolean")), findings)
