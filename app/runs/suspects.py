"""The label suspects section of a run: the images whose label is most likely wrong, the most suspect first."""

from typing import Any

from app import words
from app.filters import Filters
from app.runs import grid
from app.runs.grid import Section
from cxr.evaluation.findings import rows_of
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder

FILTERS = Filters(
    {"label": "Label", "suggested_label": "Suggested label", "subtype": "Subtype", "fold": "Fold"},
    {"self_confidence": "Probability of the label"},
)


def show(folder: RunFolder, finding: str | None) -> None:
    """Show every suspect."""
    ranked = rows_of(verified.read_table(folder.table("label_suspects")), finding)
    grid.show_section(SECTION, folder, finding, ranked[ranked["is_suspect"]], len(ranked))


def _describe(row: dict[Any, Any]) -> tuple[str, str]:
    """Return rank, label and path: whoever judges a label should not see at once what the networks think."""
    return f"{row['rank']}: {words.escape(row['label'])}", words.escape(row["path"])


SECTION = Section(
    "Label suspects",
    "None of {of:,} labels is a suspect.",
    "**{n:,} of {of:,} labels** are suspects, found by confident learning. **A suspect is no proof:** networks err, "
    "and hard images are among the suspects. Look at the images, move those whose label is wrong to the right folder, "
    "and train again.",
    "The probability of the label is out of fold, calibrated on the other folds.",
    FILTERS,
    _describe,
)
