"""How names and numbers are written for people: in reports, the app, the model card and on the command line.

A name that comes from outside (of a class, file, zip member, batch, run, model, or what a library says) is data. Before
it reaches a terminal, a log or HTML it goes through `visible`, before it reaches Markdown through `markdown`.
"""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath

DISCLAIMER = "Academic and research use only; not a medical device."
DASH = "–"
"""Stands for a value that is undefined."""
MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@/])")
"""What Markdown, or the dialect of Streamlit or GitHub, may take for more than a letter."""

_DISPLAY_NAMES = {
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "half": "0.5",
    "ppv": "PPV",
    "npv": "NPV",
    "youden": "Youden",
    "sensitivity_95": "sensitivity ≥ 0.95",
    "specificity_95": "specificity ≥ 0.95",
    "ece": "ECE",
    "brier": "Brier score",
    "jpeg": "JPEG",
}


def visible(text: object) -> str:
    """Return text on one line, each character that is not shown as its escape: `\\n`, `\\x1b`, `\\u202e`.

    Newlines forge lines of a log, control characters move a terminal's cursor, directional overrides show letters in
    another order, and the halves of surrogate pairs that stand for undecodable bytes cannot be printed at all.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def printable(path: PurePath) -> str:
    """Return a path as valid Unicode: bytes that are no UTF-8 become escapes such as \\xe9, and \\ becomes \\\\.

    Different paths give different strings.
    """
    doubled = path.as_posix().replace("\\", "\\\\")
    return doubled.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def markdown(text: object) -> str:
    """Return text so that Markdown shows it letter by letter, never as a link, picture, formula or HTML."""
    return MARKUP.sub(r"\\\1", visible(text))


def display_name(name: object) -> str:
    """Return how a person writes a name from a table, such as a metric's or an operating point's."""
    if (metric := str(name).removeprefix("macro ")) != str(name):
        return f"macro {display_name(metric)}"
    return _DISPLAY_NAMES.get(metric, metric.replace("_", " "))


def percent(share: float) -> str:
    """Return a share that somebody chose, such as a limit, in percent with all its digits: 0.025 as `2.5%`."""
    return f"{100 * share:g}%"


def describe_referral(fitting: Sequence[str], n_classes: int) -> str:
    """Return why an image is referred, such as `the image fits both classes, NORMAL and PNEUMONIA`.

    Args:
        fitting: the classes that fit it: none, or two or more.
        n_classes: that the model has.
    """
    if not fitting:
        return "the image fits neither class" if n_classes == 2 else f"the image fits none of the {n_classes} classes"
    names = f"{', '.join(fitting[:-1])} and {fitting[-1]}"
    return f"the image fits {'both' if n_classes == 2 else len(fitting)} classes, {names}"


def format_time(at: str) -> str:
    """Return a time, as ISO 8601 in UTC, to the minute: `2026-11-27 09:23 UTC`."""
    return f"{datetime.fromisoformat(at).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def format_folder_time(name: str) -> str:
    """Return the time in the name of a scoring run's folder to the minute: `2026-11-27 09:23`."""
    day, _, time = name.partition("T")
    return f"{day} {':'.join(time.split('-')[:2])}"


def format_p(value: float | None) -> str:
    """Return a p value to three decimals, `< 0.001` below that, and a dash for None or NaN."""
    if value is None or math.isnan(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_estimate(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    sd: float | None = None,
    scale: float = 100,
    decimals: int = 1,
    sign: bool = False,
    unit: str = "",
) -> str:
    """Return `value`, `value ± sd` or `value [low, high]`, such as `91.2 [89.0, 93.1]` or `91.2% [89.0, 93.1]`.

    A value that is None or NaN gives a dash; a NaN interval gives `value [–]`, a NaN standard deviation `value ± –`.

    Args:
        value: the estimate.
        low: lower bound of its interval; None for no interval.
        high: upper bound of its interval.
        sd: its standard deviation; None for none.
        scale: multiplies all of them; 100 shows shares in percent.
        decimals: digits after the point.
        sign: write + before a positive number.
        unit: of the numbers, such as %; it stands behind the value alone.
    """

    def digits(number: float) -> str:
        rounded = round(scale * number, decimals) + 0.0  # turns -0.0 into 0.0
        return f"{rounded:{'+' if sign else ''},.{decimals}f}"

    if value is None or math.isnan(value):
        return DASH
    estimate = digits(value) + unit
    if low is not None and high is not None:
        is_defined = not (math.isnan(low) or math.isnan(high))
        return f"{estimate} [{digits(low)}, {digits(high)}]" if is_defined else f"{estimate} [{DASH}]"
    if sd is not None:
        return f"{estimate} ± {DASH if math.isnan(sd) else digits(sd)}"
    return estimate
