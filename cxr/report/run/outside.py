"""Tests outside cross-validation in a report: how often each was opened, and of what it is."""

from collections.abc import Collection
from typing import Any

from cxr.classes import Findings
from cxr.dataset.findings import count_by_class
from cxr.evaluation.outside.tests import is_current
from cxr.storage import verified
from cxr.storage.run_folder import OutsideTestFolder
from cxr.training.run import Run


def openings(run: Run, test: OutsideTestFolder, classes: Collection[str]) -> dict[str, Any]:
    """Return what a page says of a test: its openings and by how many ensembles, counts, and whether it is up to date.

    Networks that open it again see nothing new: a command that was stopped while it wrote the report is typed again.

    Args:
        run: finished.
        test: the test.
        classes: that the page is about; of several findings, one of them and its absence.
    """
    record = verified.read_json(test.openings)["openings"]
    images = verified.read_table(test.predictions)
    if isinstance(run.outputs, Findings):
        counts = {name: n for name, n in count_by_class(images).items() if name in classes}
    else:
        counts = images["label"].value_counts().to_dict()
    return {
        "name": test.path.name,
        "openings": record,
        "n_ensembles": len({tuple(opening["weights"]) for opening in record}),
        "counts": counts,
        "is_current": is_current(run, test),
    }
