"""The comparison of two models on tables of their images."""

import re

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from cxr.classes import Classes, Findings
from cxr.serving.challenger import compare_classes, compare_findings

TWO, THREE, FINDINGS = Classes(["well", "sick"]), Classes("abc"), Findings(["A", "B"])
N_IMAGES = 300


def drawn(classes: Classes, by: float, seed: int) -> pd.DataFrame:
    """Return images of which a model separates the classes, more or less."""
    target = np.arange(N_IMAGES) % len(classes)
    scatter = np.random.default_rng(seed).normal(size=(N_IMAGES, len(classes)))
    score = expit(by * (target[:, None] == np.arange(len(classes))) + scatter)
    probability = score / score.sum(axis=1, keepdims=True)
    facts = {"image_id": [f"i{k}" for k in range(N_IMAGES)], "group": [f"g{k // 2}" for k in range(N_IMAGES)]}
    table = pd.DataFrame(probability, columns=classes.probability_columns)
    return table.assign(label=np.asarray(classes)[target], **facts)


def numbers(sentence: str) -> list[float]:
    return [float(text) for text in re.findall(r"[+-]?\d+\.\d+", sentence)]


def test_two_classes_are_compared_by_the_roc_auc_of_the_positive_one() -> None:
    before, after = drawn(TWO, 2, 0), drawn(TWO, 0.2, 1)
    sentence, is_worse = compare_classes(before, after, TWO)
    auc = [roc_auc_score(images["label"] == "sick", images["probability_sick"]) for images in (after, before)]
    assert numbers(sentence)[:3] == [round(auc[0], 4), round(auc[1], 4), round(auc[0] - auc[1], 4)]
    assert is_worse
    assert "on 300 shared images" in sentence
    assert compare_classes(after, before, TWO)[1] is False
    assert compare_classes(before, before, TWO)[0].endswith("difference +0.0000 [+0.0000, +0.0000]")


def test_more_than_two_classes_are_compared_by_the_mean_over_them() -> None:
    before, after = drawn(THREE, 2, 0), drawn(THREE, 1.9, 1)
    sentence, _ = compare_classes(before, after, THREE)
    auc = [
        np.mean([roc_auc_score(images["label"] == name, images[f"probability_{name}"]) for name in THREE])
        for images in (after, before)
    ]
    assert numbers(sentence)[:2] == [round(value, 4) for value in auc]


def test_the_order_of_images_does_not_matter_and_images_of_one_model_alone_do_not_count() -> None:
    before, after = drawn(TWO, 2, 0), drawn(TWO, 1.5, 1)
    shared = before.index % 3 > 0
    expected = compare_classes(before[shared], after[shared], TWO)
    mixed = after[shared].sample(frac=1, random_state=0)
    assert compare_classes(before, mixed, TWO) == expected
    assert "on 200 shared images" in expected[0]


def test_too_few_shared_images_count_as_worse() -> None:
    images = drawn(TWO, 2, 0)
    sentence, is_worse = compare_classes(images, images[images["label"] == "well"], TWO)
    assert (sentence, is_worse) == ("it shares 150 images with the champion, too few to compare the two on", True)


def of_findings(by: tuple[float, float], seed: int) -> pd.DataFrame:
    present = np.stack([np.arange(N_IMAGES) % 2 == 0, np.arange(N_IMAGES) % 3 == 0])
    scatter = np.random.default_rng(seed).normal(size=present.shape)
    table = drawn(TWO, 1, 0)[["image_id", "group"]]
    for k, name in enumerate(FINDINGS):
        known = np.arange(N_IMAGES) % (5 + k) > 0
        label = pd.Series(pd.array(present[k], "boolean")).mask(~known)
        table = table.assign(
            **{f"finding_{name}": label, f"probability_{name}": expit(by[k] * present[k] + scatter[k])}
        )
    return table


def test_one_worse_finding_is_enough_and_is_named() -> None:
    before, after = of_findings((2, 2), 0), of_findings((2, 0), 1)
    sentence, is_worse = compare_findings(before, after, FINDINGS)
    assert is_worse
    change = []
    for name in FINDINGS:
        known = before[f"finding_{name}"].notna().to_numpy()
        truth = before.loc[known, f"finding_{name}"].to_numpy(bool)
        auc = [roc_auc_score(truth, images.loc[known, f"probability_{name}"]) for images in (before, after)]
        change.append(auc[1] - auc[0])
    assert f"difference {np.mean(change):+.4f} [" in sentence
    assert re.search(rf"worse, corrected for the number of findings: B {change[1]:+.4f} \(at most -0\.\d+\)$", sentence)
    same, is_worse = compare_findings(before, before, FINDINGS)
    assert (same.endswith("; no finding is shown to be worse"), is_worse) == (True, False)


def test_findings_that_no_shared_image_parts_count_as_worse() -> None:
    images = of_findings((2, 2), 0)
    sentence, is_worse = compare_findings(images, images[images["finding_A"].fillna(False).to_numpy(bool)], FINDINGS)
    assert is_worse
    assert "too few to compare the two on" in sentence
