"""The errors section of a run: the images that are predicted wrongly, the most confident errors first."""

from typing import Any

from app import run_images, run_tables, words
from app.filters import Filters
from app.run_images import Section
from cxr.storage.run_folder import RunFolder

FILTERS = Filters(
    {"label": "Label", "predicted": "Predicted", "subtype": "Subtype", "fold": "Fold"},
    {"probability": "Probability of the predicted class"},
)


def show(folder: RunFolder, finding: str | None) -> None:
    """Show every wrong prediction."""
    n_images = len(run_tables.out_of_fold(folder, finding).predictions)
    run_images.show_section(SECTION, folder, finding, run_tables.table("errors", folder, finding), n_images)


def _describe(row: dict[Any, Any]) -> tuple[str, str]:
    title = f"{words.escape(row['label'])}, predicted {words.escape(row['predicted'])}"
    return title, f"probability {row['probability']:.1%}, fold {row['fold']}  \n{words.escape(row['path'])}"


SECTION = Section(
    "Errors",
    "None of {of:,} images is predicted wrongly.",
    "**{n:,} of {of:,} images** are predicted wrongly: another class than the label is the most probable one. The most "
    "confident errors come first.",
    "Out of fold, with probabilities calibrated on the other folds.",
    FILTERS,
    _describe,
)
