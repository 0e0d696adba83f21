"""The threshold section of a run: what predicting a class from a probability on does."""

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from app import words
from app.charts import NO_BAR
from app.runs import charts, results
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.metrics.classification import rates_at
from cxr.storage.run_folder import RunFolder
from cxr.wording import format_estimate

RATES = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV"}
CELLS = ("true_positive", "false_negative", "false_positive", "true_negative")


@st.fragment
def show(folder: RunFolder, finding: str | None) -> None:
    """Show rates and confusion matrix at a threshold; moving the slider computes these anew and nothing else."""
    images = results.out_of_fold(folder, finding)
    name, truth, probability = _choose_class(images)
    threshold = st.slider(
        f"Predict {words.escape(name)} at or above this probability", 0.0, 1.0, 0.5, 0.005, format="%.3f"
    )
    rates = rates_at(truth, probability, threshold)
    with st.container(horizontal=True):
        for metric, label in RATES.items():
            st.metric(label, format_estimate(rates[metric].value, unit="%"), border=True, help=rates[metric].reason)
    left, right = st.columns(2, gap="medium")
    with left:
        other = words.escape(images.classes[0]) if images.classes.is_binary else "any other class"
        st.table(_matrix(words.escape(name), other, *(int(rates[cell].value) for cell in CELLS)))
        st.caption(
            "Out of fold, with probabilities calibrated on the other folds, as in a packaged model. "
            f"PPV and NPV hold where {truth.mean():.1%} of the images are {words.escape(name)}, as here."
        )
        _show_operating_points(folder, finding)
    with right:
        histogram = results.table("scores", folder, finding).query("`class` == @name")
        figure = charts.histogram(histogram, name, threshold)
        st.plotly_chart(figure, config=NO_BAR, alt="Calibrated probabilities by true class, with the threshold")


def _choose_class(images: OutOfFold) -> tuple[str, NDArray[np.bool_], NDArray[np.float64]]:
    """Return the class to look at; per image, whether it is of that class, and its calibrated probability."""
    classes = images.classes
    evaluated = list(classes.evaluated)
    name = evaluated[0] if classes.is_binary else st.selectbox("Class", evaluated, width=420)
    column = classes.index(name)
    return name, images.target == column, images.calibrated[:, column]


def _matrix(
    name: str, other: str, true_positive: int, false_negative: int, false_positive: int, true_negative: int
) -> pd.DataFrame:
    """Return the confusion matrix, true classes as rows."""
    columns = {
        f"predicted {name}": [f"{true_positive:,}", f"{false_positive:,}"],
        f"predicted {other}": [f"{false_negative:,}", f"{true_negative:,}"],
    }
    return pd.DataFrame(columns, index=[f"images of {name}", f"images of {other}"])


def _show_operating_points(folder: RunFolder, finding: str | None) -> None:
    points = results.table("operating_points", folder, finding)
    if points.empty:
        return
    thresholds = points.drop_duplicates("operating_point")
    wide = points.pivot_table(index="operating_point", columns="metric", values="value", sort=False)
    shown = pd.DataFrame(
        {
            "threshold": [f"{value:.3f}" for value in thresholds["threshold"]],
            "sensitivity, %": [format_estimate(value) for value in wide["sensitivity"]],
            "specificity, %": [format_estimate(value) for value in wide["specificity"]],
        },
        index=[words.point_label(name) for name in thresholds["operating_point"]],
    )
    st.markdown("**Operating points**, each chosen on the other folds")
    st.table(shown)
