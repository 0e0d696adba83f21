import dataclasses
from typing import get_args

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from app import words
from cxr.classes import Classes
from cxr.config import OperatingPoint
from cxr.errors import UnreadableError
from cxr.images.inbox import Arrival
from cxr.images.vitals import Levels
from cxr.metrics.drift import ACQUISITION
from cxr.serving.predictor import Prediction
from cxr.serving.screening import FileReading

TWO = Classes(("NORMAL", "PNEUMONIA"))
THREE = Classes(("NORMAL", "bacteria", "virus"))


def prediction(
    probability: dict[str, float], by_fold: dict[str, list[float]] | None = None, spread: float = 0.02
) -> Prediction:
    predicted = max(probability, key=probability.__getitem__)
    flags = {"in_training": False, "novelty": 1.0, "unlike_training": None, "arithmetic": "fp32"}
    return Prediction(probability, by_fold or {}, predicted, spread, **flags)


@pytest.mark.parametrize(
    "name",
    ["<img src=x onerror=alert(1)>.png", "![x](http://evil.example/x.png)", "$x^2$ :red[a] `b` ~c~", "a\u202eb\n"],
)
def test_foreign_text_is_shown_letter_by_letter(name: str) -> None:
    html = MarkdownIt().render(words.escape(name))
    assert "<img" not in html
    assert "<a" not in html
    assert "<code" not in html
    assert "\u202e" not in html


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    shown = words.escape("a" * 100 + "0123456789z")
    assert len(shown) == words.MAX_NAME
    assert shown.endswith("…0123456789z")


@pytest.mark.parametrize(
    ("probability", "side", "predicted"), [(0.9, "at or above", "PNEUMONIA"), (0.2, "below", "NORMAL")]
)
def test_two_classes_are_told_apart_by_the_threshold(probability: float, side: str, predicted: str) -> None:
    known = prediction({"NORMAL": 1 - probability, "PNEUMONIA": probability})
    sentence = words.conclusion(TWO, known, predicted, "youden", 0.5)
    assert f"The probability of PNEUMONIA is **{probability:.1%}**, {side} the threshold of 50.0% (" in sentence
    assert "(best of both rates, Youden)" in sentence
    assert sentence.endswith(f"the predicted class is **{predicted}**.")


def test_of_more_classes_the_most_probable_one_is_shown() -> None:
    known = prediction({"NORMAL": 0.2, "bacteria": 0.5, "virus": 0.3})
    assert words.shown_class(THREE, known) == "bacteria"
    sentence = words.conclusion(THREE, known, "bacteria", None, 0.5)
    assert sentence == "bacteria is the most probable of 3 classes, with **50.0%**; virus 30.0%, NORMAL 20.0%."


@pytest.mark.parametrize(
    ("probability", "shown", "of_100"),
    [
        (0.9996, "> 99.9%", "more than 99"),
        (0.9994, "99.9%", "more than 99"),
        (0.9, "90.0%", "about 90"),
        (0.0004, "< 0.1%", "fewer than 1"),
    ],
)
def test_no_image_is_said_to_be_certain(probability: float, shown: str, of_100: str) -> None:
    known = prediction({"NORMAL": 1 - probability, "PNEUMONIA": probability}, {"PNEUMONIA": [probability] * 2})
    assert words.probability(TWO, known) == f"PNEUMONIA: {shown}"
    assert f"is **{shown}**, " in words.conclusion(TWO, known, "PNEUMONIA", "half", 0.5)
    assert words.agreement(TWO, known, 0.5).endswith(f"their probabilities are {shown}.")
    reference = pd.DataFrame({"label": ["PNEUMONIA", "NORMAL"]})
    assert f"of 100 images with this probability, {of_100} are PNEUMONIA" in words.meaning(TWO, known, reference, {})


def test_the_meaning_of_a_probability_names_the_prevalence() -> None:
    reference = pd.DataFrame({"label": ["PNEUMONIA"] * 3 + ["NORMAL"]})
    known = prediction({"PNEUMONIA": 0.876, "NORMAL": 0.124})
    sentence = words.meaning(TWO, known, reference, {})
    assert "of 100 images with this probability, about 88 are PNEUMONIA, where 75.0% of all images are" in sentence
    origin = {"source": "out_of_fold", "prevalence": 0.75, "stated_prevalence": 0.2}
    sentence = words.meaning(TWO, known, reference, {"thresholds_from": origin})
    assert "where 20.0% of all images are" in sentence


@pytest.mark.parametrize(
    ("values", "spread", "beginning"),
    [
        ([0.8, 0.82], 0.02, "The 2 folds agree"),
        ([0.6, 0.9], 0.3, "The 2 folds are not equally sure"),
        ([0.4, 0.6, 0.9], 0.5, "The folds disagree: 2 of 3 are on one side of the threshold"),
    ],
)
def test_folds_agree_differ_or_disagree(values: list[float], spread: float, beginning: str) -> None:
    known = prediction({"NORMAL": 0.3, "PNEUMONIA": 0.7}, {"PNEUMONIA": values}, spread)
    sentence = words.agreement(TWO, known, 0.5)
    assert sentence.startswith(beginning)
    assert sentence.endswith(f"range from {min(values):.1%} to {max(values):.1%}.")


@pytest.mark.parametrize(
    ("novelty", "unlike", "beginning"),
    [
        (10.5, False, None),
        (100.0, False, "This may not be a chest image"),
        (100.0, None, "This may not be a chest image"),
        (200.0, True, "This is unlike the images that the model was trained on"),
    ],
)
def test_a_caution_is_the_stronger_the_farther_an_image_lies_from_the_training_images(
    novelty: float, unlike: bool | None, beginning: str | None
) -> None:
    reference = pd.DataFrame({"novelty": range(100)} | dict.fromkeys(ACQUISITION, 1.0))
    reading = FileReading(Arrival("x", "", 0, 0), "id", None, 1, 1, Levels(1, 1, 1, 1, 1), 0.0)
    known = dataclasses.replace(prediction({"NORMAL": 0.3, "PNEUMONIA": 0.7}), novelty=novelty, unlike_training=unlike)
    sentences = words.cautions(reading, known, reference)
    assert len(sentences) == (beginning is not None)
    assert "".join(sentences).startswith(beginning or "")


def test_every_operating_point_has_a_plain_label() -> None:
    assert set(words.POINTS) == set(get_args(OperatingPoint))
    assert words.point_label("specificity_95") == "few false alarms, specificity ≥ 0.95"


def test_refused_files_are_one_list() -> None:
    error = UnreadableError("empty", "0 bytes")
    assert words.refusals([("a", error)]) == "1 file was not scored:\n\n- a: empty\\: 0 bytes"
    assert words.refusals([("a", error), ("*b*", error)]).splitlines()[::3] == [
        "2 files were not scored:",
        r"- \*b\*: empty\: 0 bytes",
    ]


def test_an_answer_says_which_class_fits_or_why_a_person_should_look() -> None:
    promise = "a class is wrongly excluded from at most about 10% of its own images."
    assert words.answer(["a_b"], 2, 0.1) == rf"Answer: **a\_b**, the only class that fits the image; {promise}"
    neither = f"**Refer: the image fits neither class.** A person should look at it; {promise}"
    assert words.answer([], 2, 0.1) == neither
    assert words.referral(["A", "B"], 2) == "Refer: the image fits both classes, A and B"
    assert words.referral([], 3) == "Refer: the image fits none of the 3 classes"
    assert words.referral(["A", "B", "C"], 4) == "Refer: the image fits 3 classes, A, B and C"
