"""The sentences of the page, and foreign text made harmless."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cxr.classes import Classes
from cxr.errors import UnreadableError
from cxr.metrics.drift import is_novel, outlying
from cxr.serving.origin import describe_origin, prevalence_of
from cxr.serving.predictor import Prediction
from cxr.serving.screening import FileReading
from cxr.wording import describe_referral, display_name, markdown, visible

MAX_NAME = 80
CLOSE = 0.1
"""Folds agree if their probabilities differ by no more than this."""
POINTS = {
    "half": "even odds",
    "balanced": "both classes alike",
    "youden": "best of both rates",
    "sensitivity_95": "few missed",
    "specificity_95": "few false alarms",
}
"""What each operating point is chosen for."""
MEASURES = {
    "aspect": "width over height",
    "border": "brightness of the border",
    "bright_share": "share of white",
    "chroma": "colour",
    "dark_share": "share of black",
    "mean": "brightness",
    "pixels": "size in pixels",
}
"""What is measured of an image, where the measure's own name says too little."""
UNLIKE_TRAINING = "Unlike the training images"
NO_CHEST = "Not a chest image"
REFERRED = "Refer"
"""What takes the place of a predicted class where it would mean little."""


def escape(text: str) -> str:
    """Return foreign text so that Markdown shows it letter by letter, shortened in the middle if it is long."""
    shown = visible(text)
    return markdown(shown if len(shown) <= MAX_NAME else f"{shown[: MAX_NAME - 12]}…{shown[-11:]}")


def refusals(files: Sequence[tuple[str, UnreadableError]]) -> str:
    """Return a list of the files that were not scored, each with the reason, under the sentence that says so."""
    lines = [f"- {escape(name)}: {markdown(error)}" for name, error in files]
    how_many = "1 file was" if len(files) == 1 else f"{len(files)} files were"
    return "\n".join([f"{how_many} not scored:\n", *lines])


def point_label(point: str) -> str:
    """Return an operating point in plain words, with its name as reports have it."""
    return f"{POINTS[point]}, {display_name(point)}"


def other_body_part(stated: str) -> str:
    """Return what to make of an image whose header states another body part than the chest."""
    return (
        f"The header of this DICOM file states the body part {escape(stated)}. The model knows chest images alone: the "
        "prediction means little."
    )


def measure_name(measure: str) -> str:
    """Return what is measured of an image in plain words."""
    return MEASURES.get(measure, display_name(measure))


def chance(probability: float) -> str:
    """Return a probability in percent with one digit; one that would be rounded to 0 or 100% as a bound.

    Args:
        probability: 0 to 1.
    """
    if 0 < probability < 0.0005:
        return "< 0.1%"
    if 0.9995 <= probability < 1:
        return "> 99.9%"
    return f"{probability:.1%}"


def probability(classes: Classes, prediction: Prediction) -> str:
    """Return the probability of the class that is shown."""
    name = shown_class(classes, prediction)
    return f"{escape(name)}: {chance(prediction.probability[name])}"


def shown_class(classes: Classes, prediction: Prediction) -> str:
    """Return the class whose probability is shown: the positive class of two, of more the predicted one."""
    return classes.positive or prediction.predicted


def conclusion(classes: Classes, prediction: Prediction, predicted: str, point: str | None, threshold: float) -> str:
    """Return the predicted class, and why it is predicted."""
    name = shown_class(classes, prediction)
    share = f"**{chance(prediction.probability[name])}**"
    if point is None:
        ranked = sorted(classes, key=prediction.probability.__getitem__, reverse=True)
        others = ", ".join(f"{escape(other)} {chance(prediction.probability[other])}" for other in ranked[1:])
        return f"{escape(name)} is the most probable of {len(classes)} classes, with {share}; {others}."
    side = "at or above" if predicted == name else "below"
    return (
        f"The probability of {escape(name)} is {share}, {side} the threshold of {threshold:.1%} "
        f"({point_label(point)}): the predicted class is **{escape(predicted)}**."
    )


def referral(fitting: Sequence[str], n_classes: int) -> str:
    """Return that an image is referred, and why, in place of a predicted class.

    Args:
        fitting: the classes that fit it: none, or two or more.
        n_classes: that the model has.
    """
    return f"Refer: {describe_referral([escape(name) for name in fitting], n_classes)}"


def answer(fitting: Sequence[str], n_classes: int, level: float) -> str:
    """Return what a model answers that refers images, and what that promises.

    Args:
        fitting: the classes that fit the image.
        n_classes: that the model has.
        level: the share of each class that may be wrongly excluded.
    """
    promise = f"a class is wrongly excluded from at most about {100 * level:g}% of its own images"
    if len(fitting) != 1:
        return f"**{referral(fitting, n_classes)}.** A person should look at it; {promise}."
    return f"Answer: **{escape(fitting[0])}**, the only class that fits the image; {promise}."


def meaning(classes: Classes, prediction: Prediction, reference: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """Return what the probability means, and under which condition.

    Args:
        classes: of the model.
        prediction: its prediction of an image.
        reference: the images that the model was made from, with their `label`.
        facts: the contents of the model's package.json.
    """
    name = shown_class(classes, prediction)
    how_many = _of_100(prediction.probability[name])
    prevalence = prevalence_of(facts)
    share = float((reference["label"] == name).mean()) if prevalence is None else prevalence
    return (
        f"Calibrated: of 100 images with this probability, {how_many} are {escape(name)}, where {share:.1%} of "
        f"all images are (calibration and thresholds: {escape(describe_origin(facts))})."
    )


def _of_100(probability: float) -> str:
    """Return how many of 100 images a probability means: never none, nor all of them."""
    n_images = round(100 * probability)
    return {0: "fewer than 1", 100: "more than 99"}.get(n_images, f"about {n_images}")


def agreement(classes: Classes, prediction: Prediction, threshold: float) -> str:
    """Return how far the folds agree."""
    values = prediction.by_fold[shown_class(classes, prediction)]
    n_folds = len(values)
    lowest, highest = chance(min(values)), chance(max(values))
    spread = f"are {lowest}" if lowest == highest else f"range from {lowest} to {highest}"
    if classes.is_binary:
        n_above = sum(value >= threshold for value in values)
        n_together = max(n_above, n_folds - n_above)
        if n_together < n_folds:
            return (
                f"The folds disagree: {n_together} of {n_folds} are on one side of the threshold; "
                f"their probabilities {spread}."
            )
    if prediction.fold_spread <= CLOSE:
        return f"The {n_folds} folds agree: their probabilities {spread}."
    return f"The {n_folds} folds are not equally sure: their probabilities {spread}."


def cautions(reading: FileReading, prediction: Prediction, reference: pd.DataFrame) -> list[str]:
    """Return what speaks against trusting a prediction.

    Args:
        reading: the image as it was read.
        prediction: what the model predicts of it.
        reference: the images that the model was made from.
    """
    sentences = []
    if prediction.unlike_training:
        sentences.append(
            "This is unlike the images that the model was trained on: another view, another part of the body, or no "
            "radiograph at all. The prediction means little."
        )
    elif is_novel(prediction.novelty, reference):
        sentences.append(
            "This may not be a chest image: it is farther from the training images than 99% of the images that the "
            "model was evaluated on."
        )
    if outside := outlying(reading.measures, reference):
        *others, last = (measure_name(name) for name in outside)
        names = f"{', '.join(others)} and {last}" if others else last
        sentences.append(
            f"In {names} it is outside the range of all {len(reference):,} images that the model was evaluated on."
        )
    if prediction.in_training:
        sentences.append(
            "The model was made from this image, or a copy of it: the prediction shows what the model remembers."
        )
    return sentences


def images_are(n_images: int) -> str:
    """Return a number of images as the subject of a sentence in the present tense: `1 image is`, `2 images are`."""
    return f"{n_images:,} image is" if n_images == 1 else f"{n_images:,} images are"


def failed_check(severity: str, sentence: str, found: str) -> str:
    """Return what a check expected of a batch and did not find.

    Args:
        severity: of the check.
        sentence: what is expected.
        found: examples of what was found; may be empty.
    """
    examples = f" Found: {markdown(found)}." if found else ""
    return f"**{severity.capitalize()}, not met:** {markdown(sentence)}{examples}"


def first_steps(commands: Mapping[str, str]) -> str:
    """Return commands to type as a list, each with what it does."""
    return "\n".join(f"- `{command}` {purpose}" for command, purpose in commands.items())


def joined(names: Sequence[str]) -> str:
    """Return names, separated by commas."""
    return ", ".join(escape(name) for name in names)
