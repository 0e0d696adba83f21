"""Performance by week, against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from cxr.classes import Classes
from cxr.feedback.performance import labelled_images, performance_table
from tests.support.scores import CLASSES, draw_scores, image_id_of

N = 60


def labelled(tmp_path, **facts: object) -> pd.DataFrame:
    truth = np.arange(N) % 3 == 0
    times = pd.to_datetime(["2026-12-27T23:00Z", "2026-12-28T01:00Z"]).repeat(N // 2)  # 2026-W52 and -W53
    scored = draw_scores(tmp_path, truth.tolist(), shift=1.5).assign(scored_at=times, key="")
    labels = pd.DataFrame(
        {
            "image_id": [image_id_of(number) for number in range(N)],
            "label": np.where(truth, "PNEUMONIA", "NORMAL"),
            "patient_id": [f"table-{number // 2}" for number in range(N)],
            "first_entry": 1,
        }
    )
    return labelled_images(scored.assign(**facts), labels)


def test_each_week_and_all_weeks_have_the_numbers_of_scikit_learn(tmp_path) -> None:
    images = labelled(tmp_path)
    table = performance_table(images, Classes(CLASSES))
    assert table["week"].fillna("all").unique().tolist() == ["all", "2026-W52", "2026-W53"]
    for week, rows in table.fillna({"week": "all"}).groupby("week"):
        part = images if week == "all" else images[images["week"] == week]
        truth = (part["label"] == "PNEUMONIA").to_numpy()
        probability = part["probability_PNEUMONIA"].to_numpy(float)
        called = probability >= 0.5
        odds = np.log(probability / (1 - probability))[:, None]
        line = LogisticRegression(C=np.inf, tol=1e-9).fit(odds, truth)
        expected = {
            "roc_auc": sk.roc_auc_score(truth, probability),
            "sensitivity": sk.recall_score(truth, called),
            "specificity": sk.recall_score(~truth, ~called),
            "brier": sk.brier_score_loss(truth, probability),
            "calibration_in_the_large": probability.mean() - truth.mean(),
            "calibration_slope": line.coef_[0, 0],
            "calibration_intercept": line.intercept_[0],
        }
        assert rows.set_index("metric")["value"].to_dict() == pytest.approx(expected, abs=1e-4)
        assert (rows["n_images"] == len(part)).all()
        assert (rows["n_positive"] == truth.sum()).all()
        assert (rows["n_patients"] == len(part) / 2).all()
        assert ((rows["ci_low"] < rows["value"]) & (rows["value"] < rows["ci_high"])).all()


def test_each_of_three_classes_and_their_mean_have_the_numbers_of_scikit_learn() -> None:
    classes = Classes(("NORMAL", "BACTERIA", "VIRUS"))
    generator = np.random.default_rng(0)
    label = generator.choice(classes, 90, p=[0.5, 0.3, 0.2])
    probability = generator.dirichlet([1, 1, 1], 90)
    probability[np.arange(90), [classes.index(name) for name in label]] += 1
    probability /= 2
    predicted = np.array(classes)[probability.argmax(axis=1)]
    group = [f"patient {number // 2}" for number in range(90)]
    facts = {"model_version": "1", "week": "2026-W45", "label": label, "predicted_label": predicted, "group": group}
    images = pd.DataFrame(facts | dict(zip(classes.probability_columns, probability.T, strict=True)))
    table = performance_table(images, classes).query("week.isna()").set_index(["class", "metric"])
    found = table["value"]
    for column, name in enumerate(classes):
        truth = label == name
        assert found[name, "roc_auc"] == pytest.approx(sk.roc_auc_score(truth, probability[:, column]))
        assert found[name, "sensitivity"] == pytest.approx(sk.recall_score(truth, predicted == name))
        assert found[name, "brier"] == pytest.approx(sk.brier_score_loss(truth, probability[:, column]))
        assert table.loc[(name, "roc_auc"), "n_positive"] == truth.sum()
    in_order = probability[:, np.argsort(classes)]
    mean = sk.roc_auc_score(label, in_order, multi_class="ovr", labels=sorted(classes), average="macro")
    assert found["macro", "roc_auc"] == pytest.approx(mean)
    assert found["macro", "brier"] == pytest.approx(np.mean([found[name, "brier"] for name in classes]))
    assert table.loc[("macro", "brier"), "n_positive"] == min(table["n_positive"])
    assert table.loc[("macro", "calibration_slope"), "reason"] == "calibration is of each class"
    assert np.isnan(found["macro", "calibration_slope"])


def test_intervals_are_wider_where_images_share_patients(tmp_path) -> None:
    images = labelled(tmp_path)
    widths = []
    for other in ("", "'"):  # each image twice: of one patient, or of two
        twice = pd.concat([images, images.assign(group=images["group"] + other)])
        rows = performance_table(twice, Classes(CLASSES)).query("metric == 'brier' and week.isna()")
        widths.append((rows["ci_high"] - rows["ci_low"]).iloc[0])
    assert widths[0] > 1.2 * widths[1]


def test_a_week_without_one_of_the_classes_has_a_reason_for_each_missing_number(tmp_path) -> None:
    images = labelled(tmp_path).query("label == 'NORMAL'")
    rows = performance_table(images, Classes(CLASSES)).query("week == '2026-W53'").set_index("metric")
    assert rows.loc["roc_auc", "reason"] == rows.loc["calibration_slope", "reason"] == "no image of the class"
    undefined = ["roc_auc", "sensitivity", "calibration_slope", "calibration_intercept"]
    assert rows["value"].isna().to_dict() == {name: name in undefined for name in rows.index}


def test_a_week_that_is_ranked_perfectly_has_no_slope(tmp_path) -> None:
    images = labelled(tmp_path)
    probability = np.where(images["label"] == "PNEUMONIA", 0.9, 0.1)
    rows = performance_table(images.assign(probability_PNEUMONIA=probability), Classes(CLASSES)).set_index("metric")
    assert (rows.loc["calibration_slope", "reason"] == "the probabilities separate the classes").all()


def test_images_that_the_model_was_made_from_are_left_out(tmp_path) -> None:
    assert labelled(tmp_path, in_training=True).empty
    assert performance_table(labelled(tmp_path, in_training=True), Classes(CLASSES)).empty
