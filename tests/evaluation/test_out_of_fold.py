import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from cxr.classes import Classes
from cxr.evaluation.out_of_fold import OutOfFold, predicted_images
from tests.support.predictions import simulate


def test_the_table_becomes_arrays_in_the_order_of_its_rows_and_classes() -> None:
    table = pd.DataFrame(
        {
            "label": ["P", "N", "P"],
            "fold": [1, 0, 1],
            "group_id": ["person2", "person1", "person2"],
            "logit_N": [0.0, 2.0, 1.0],
            "logit_P": [1.0, 0.0, 1.0],
        }
    )
    images = OutOfFold(table, Classes("NP"))
    assert images.target.tolist() == [1, 0, 1]
    assert images.fold.tolist() == [1, 0, 1]
    assert images.group.tolist() == [0, 1, 0]
    assert images.drawn.shape == (2000, 2)
    np.testing.assert_allclose(images.probability[:, 1], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(2)), 0.5])


def test_two_classes_are_evaluated_by_the_positive_one_and_three_each_against_the_rest() -> None:
    two = simulate(60)
    ((name, truth, column),) = two.one_vs_rest()
    assert (name, column) == ("PNEUMONIA", 1)
    assert truth.tolist() == (two.predictions["label"] == "PNEUMONIA").tolist()
    three = simulate(60, classes=Classes("abc"))
    found = list(three.one_vs_rest())
    assert [(name, column) for name, _, column in found] == [("a", 0), ("b", 1), ("c", 2)]
    assert np.sum([truth for _, truth, _ in found], axis=0).tolist() == [1] * 60
    assert three.thresholds == {}


def test_new_images_are_calibrated_with_all_images_and_known_ones_without_their_fold() -> None:
    images = simulate(300, slope=3.0)
    assert images.calibration.temperature == pytest.approx(3, rel=0.5)
    swapped = images.predictions["label"].map({"NORMAL": "PNEUMONIA", "PNEUMONIA": "NORMAL"})
    is_first = images.fold == 0
    changed = OutOfFold(
        images.predictions.assign(label=swapped.where(is_first, images.predictions["label"])), images.classes
    )
    np.testing.assert_array_equal(changed.calibrated[is_first], images.calibrated[is_first])
    assert changed.calibration != images.calibration


@pytest.mark.parametrize("classes", [Classes("NP"), Classes("abc")])
def test_predicted_images_are_those_above_one_half_or_the_most_probable(classes: Classes) -> None:
    images = simulate(80, classes=classes)
    probability = softmax(images.logits, axis=1)
    columns = dict(zip(classes.probability_columns, probability.T, strict=True))
    label, predicted, found = predicted_images(images.predictions.assign(**columns), classes)
    assert label.tolist() == images.predictions["label"].tolist()
    assert predicted.tolist() == [classes[k] for k in probability.argmax(axis=1)]
    np.testing.assert_array_equal(found, probability)
