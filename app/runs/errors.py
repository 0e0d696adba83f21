"""The errors section of a run: the images that are predicted wrongly, the most confident errors first."""

from typing import Any

from app import words
from app.filters import Filters
from app.runs import grid, results
from app.runs.grid import Section
from cxr.storage.run_folder import RunFolder

FILTERS = Filters(
    {"label": "Label", "predicted": "Predicted", "subtype": "Subtype", "fold": "Fold"},
    {"probability": "Probability of the predicted class"},
)


def show(folder: RunFolder, finding: str | None) -> None:
    """Show every wrong prediction."""
    n_images = len(results.out_of_fold(folder, finding).predictions)
    grid.show_section(SECTION, folder, finding, results.table("errors", folder, finding), n_images)


def _describe(row: dict[Any, Any]) -> tuple[str, str]:
    title = f"{words.escape(row['label'])}, predicted {words.escape(row['predicted'])}"
    return title, f"probability {words.chance(row['probability'])}, fold {row['fold']}  \n{words.escape(row['path'])}"


SECTION = Section(
    "Errors",
    "None of {of:,} images is predicted wrongly.",
    "**{n:,} of {of:,} images** are predicted wrongly: another class than the label is the most probable one. The most "
    "confident errors come first.",
    "Out of fold, with probabilities calibrated on the other folds.",
    FILTERS,
    _describe,
)
