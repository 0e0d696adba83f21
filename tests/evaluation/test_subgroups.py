import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from cxr.classes import Classes
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.subgroups import label_suspects, most_confident_errors, subgroup_table
from tests.support.predictions import CLASSES, manifest_of, simulate


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


@pytest.mark.parametrize("classes", [CLASSES, Classes("ABC")])
def test_label_suspects_hold_every_image_once_with_its_calibrated_self_confidence(classes: Classes) -> None:
    images = simulate(classes=classes)
    table = label_suspects(images)
    assert table["rank"].tolist() == list(range(1, 601))
    assert sorted(table["path"]) == sorted(images.predictions["path"])
    own = pd.Series(images.calibrated[np.arange(600), images.target], images.predictions["path"])
    assert table["self_confidence"].tolist() == own[table["path"]].tolist()
    suspects = table[table["is_suspect"]]
    assert len(suspects) == suspects["rank"].max() > 0
    assert (suspects["suggested_label"] != suspects["label"]).all()
    assert suspects["suggested_label"].isin(classes).all()
    assert table.loc[~table["is_suspect"], "suggested_label"].isna().all()


def test_label_suspects_count_the_images_and_the_suspects_of_a_patient() -> None:
    table = label_suspects(simulate())
    for row in table.head(40).itertuples():
        of_patient = table[table["group_id"] == row.group_id]
        assert row.n_images_in_group == len(of_patient)
        assert row.n_suspects_in_group == of_patient["is_suspect"].sum()
    assert table["n_images_in_group"].max() > table["n_suspects_in_group"].max()


def test_no_suspect_gives_a_table_of_the_same_types() -> None:
    perfect = simulate(60).predictions
    logit = 30.0 * (perfect["label"] == "PNEUMONIA") - 15
    found = label_suspects(OutOfFold(perfect.assign(logit_NORMAL=-logit, logit_PNEUMONIA=logit), CLASSES))
    assert not found["is_suspect"].any()
    assert found.dtypes.tolist() == label_suspects(simulate()).dtypes.tolist()


def test_planted_errors_come_first_though_class_weights_have_shifted_the_probabilities() -> None:
    features, truth = make_classification(
        4000, n_informative=8, n_redundant=0, class_sep=1.6, flip_y=0, weights=[0.93], random_state=0
    )
    planted = np.random.default_rng(0).permutation(4000) < 120
    label = np.where(planted, np.logical_not(truth), truth).astype(int)
    predictions = simulate(4000).predictions.assign(label=np.array(CLASSES)[label], logit_NORMAL=0.0)
    for fold, (seen, held_out) in enumerate(StratifiedKFold(5).split(features, label)):
        model = LogisticRegression(class_weight="balanced").fit(features[seen], label[seen])
        predictions.loc[held_out, "logit_PNEUMONIA"] = model.decision_function(features[held_out])
        predictions.loc[held_out, "fold"] = fold
    table = label_suspects(OutOfFold(predictions, CLASSES))
    is_planted = table["path"].isin(predictions.loc[planted, "path"])
    assert is_planted[:120].mean() >= 0.75


def test_columns_of_the_tables_of_labels_are_subgroups_in_the_order_of_their_numbers() -> None:
    images = simulate()
    bands = np.array(["0 to 17", "18 to 39", "100 and over"])[np.arange(600) % 3]
    sex = np.where(np.arange(600) % 4, "F", "M").astype(object)
    sex[:10] = None
    manifest = manifest_of(images).assign(subgroup_age=bands, subgroup_sex=sex)
    table = subgroup_table(images, manifest)
    assert table.query("subgroup == 'age'")["level"].unique().tolist() == ["0 to 17", "18 to 39", "100 and over"]
    men = table.query("subgroup == 'sex' and level == 'M' and metric == 'roc_auc'").iloc[0]
    inside = sex == "M"
    expected = sk.roc_auc_score((images.target == 1)[inside], images.probability[inside, 1])
    assert (men["n"], men["value"]) == (inside.sum(), pytest.approx(expected))
