import numpy as np
import pandas as pd
import torch
from sklearn.utils.class_weight import compute_class_weight

from cxr.classes import Classes, Findings
from cxr.training.fold.objective import Objective, finding_weights

FINDINGS = Findings(("Effusion", "Mass"))


def test_classes_are_indices_and_findings_are_present_absent_or_unknown() -> None:
    images = pd.DataFrame(
        {
            "label": ["b", "a", "b"],
            "finding_Effusion": pd.array([True, False, None], dtype="boolean"),
            "finding_Mass": pd.array([None, True, False], dtype="boolean"),
        }
    )
    assert Objective(Classes("ab")).targets(images).tolist() == [1, 0, 1]
    expected = torch.tensor([[1, torch.nan], [0, 1], [torch.nan, 0]])
    torch.testing.assert_close(Objective(FINDINGS).targets(images), expected, equal_nan=True)


def test_the_weights_of_each_finding_are_those_of_scikit_learn_on_its_known_images() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random((200, 2)) < [0.1, 0.6]).astype(float)
    labels[generator.random((200, 2)) < 0.3] = np.nan
    weights = np.reshape(finding_weights(labels), (2, 2))  # of absence, then of presence
    for k in range(2):
        known = labels[~np.isnan(labels[:, k]), k]
        np.testing.assert_allclose(
            weights[:, k], compute_class_weight("balanced", classes=np.array([0, 1]), y=known), rtol=1e-12
        )


def test_what_no_image_shows_weighs_nothing() -> None:
    assert finding_weights(np.array([[0.0], [0.0], [np.nan]])) == [0.5, 0.0]


def test_without_balance_every_label_weighs_the_same() -> None:
    targets = torch.zeros(4, 2)
    assert Objective(FINDINGS).weights(targets, balanced=False) == [1.0] * 4
    assert Objective(Classes("abc")).weights(torch.tensor([0, 1, 2]), balanced=False) == [1.0] * 3
