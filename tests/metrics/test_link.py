import numpy as np

from cxr.metrics.link import probabilities

LOGITS = np.array([[0.0, np.log(3.0)], [np.log(4.0), 0.0]])


def test_classes_share_the_probability_of_an_image() -> None:
    np.testing.assert_allclose(probabilities(LOGITS, "softmax"), [[1 / 4, 3 / 4], [4 / 5, 1 / 5]])


def test_each_finding_has_its_own() -> None:
    np.testing.assert_allclose(probabilities(LOGITS, "sigmoid"), [[1 / 2, 3 / 4], [4 / 5, 1 / 2]])
