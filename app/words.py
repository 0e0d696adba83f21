"""What the page says, in plain words; and foreign text, made harmless."""

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from cxr.errors import UnreadableError
from cxr.metrics.drift import is_novel, outlying
from cxr.report.wording import said
from cxr.serving.package import Package
from cxr.serving.predictor import Prediction
from cxr.serving.screening import FileReading

DISCLAIMER = "Academic and research use only. Not a medical device; not for diagnosis."
MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@/])")
MAX_NAME = 80
NAN = float("nan")
CLOSE = 0.1
"""Folds whose probabilities spread less than this are said to agree."""


def plain(text: str) -> str:
    """Return foreign text so that Markdown shows it letter by letter: no link, picture or formula comes of it."""
    shown = "".join(c if c.isprintable() else "�" for c in text)
    shown = shown if len(shown) <= MAX_NAME else f"{shown[: MAX_NAME - 12]}…{shown[-11:]}"
    return MARKUP.sub(r"\\\1", shown)


def refusal(name: str, error: UnreadableError) -> str:
    """Return why a file is not judged."""
    return f"{plain(name)} is not judged, {plain(str(error))}."


def asked_for(package: Package, prediction: Prediction) -> str:
    """Return the class whose probability is shown: the positive one of two, of more the one that is called."""
    return package.classes[1] if len(package.classes) == 2 else prediction.predicted


def verdict(package: Package, prediction: Prediction, predicted: str, point: str | None, threshold: float) -> str:
    """Return the call, and what it rests on."""
    name = asked_for(package, prediction)
    probability = prediction.probability[name]
    if len(package.classes) > 2:
        return (
            f"{plain(name)} is the likeliest of {len(package.classes)} classes: its probability is {probability:.1%}."
        )
    side = "at or above" if predicted == name else "below"
    return (
        f"The probability of {plain(name)} is **{probability:.1%}**, {side} the threshold of {threshold:.1%} "
        f"({said(point)}): the image is called **{plain(predicted)}**."
    )


def meaning(package: Package, prediction: Prediction, reference: pd.DataFrame) -> str:
    """Return what the probability means, and under which condition."""
    name = asked_for(package, prediction)
    share = float((reference["label"] == name).mean())
    n = round(100 * prediction.probability[name])
    return (
        f"Calibrated: of 100 images with this probability, about {n} are {plain(name)}, "
        f"where {plain(name)} is as frequent as in the images of the model ({share:.0%})."
    )


def agreement(package: Package, prediction: Prediction, threshold: float) -> str:
    """Return how far the folds agree."""
    name = asked_for(package, prediction)
    values = prediction.by_fold[name]
    n, spread = len(values), f"{min(values):.1%} to {max(values):.1%}"
    if len(package.classes) == 2:
        n_same = max(sum(v >= threshold for v in values), sum(v < threshold for v in values))
        if n_same < n:
            return f"The folds disagree: {n_same} of {n} are on one side of the threshold; they say {spread}."
    if prediction.fold_spread <= CLOSE:
        return f"The {n} folds agree: they say {spread}."
    return f"The {n} folds differ in how sure they are: they say {spread}."


def cautions(reading: FileReading, prediction: Prediction, reference: pd.DataFrame) -> list[str]:
    """Return what speaks against trusting a prediction."""
    said_of_it = []
    if is_novel(prediction.novelty, reference):
        said_of_it.append(
            "It may be no chest image: it lies farther from the training images than 99 % of the images that the model "
            "was judged on."
        )
    if outside := outlying(reading.measures, reference):
        names = ", ".join(name.replace("_", " ") for name in outside)
        said_of_it.append(
            f"It drifts: in {names} it lies outside all {len(reference):,} images that the model was judged on."
        )
    if prediction.in_training:
        said_of_it.append(
            "The model was made from this very image, or a copy of it: its answer shows what it remembers."
        )
    return said_of_it


def first_steps(commands: Mapping[str, str]) -> str:
    """Return commands to type, each with what it is for."""
    return "\n".join(f"- `{command}` {what}" for command, what in commands.items())


def percent(value: float, low: float = NAN, high: float = NAN, *, sd: float | None = None) -> str:
    """Return a share in percent, with its interval or standard deviation where there is one; – where there is none."""
    if pd.isna(value):
        return "–"
    interval = "" if pd.isna(low) else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * value:.1f}" + interval + ("" if sd is None else f" ± {100 * sd:.1f}")


def listed(names: Sequence[str]) -> str:
    """Return names one after the other."""
    return ", ".join(plain(name) for name in names)
