"""The suite of the findings in `folds.parquet`. Grain: one row per finding and fold.

A finding with few patients is only a warning: its metrics are undefined where it does not occur, and say so.
"""

from typing import TYPE_CHECKING

import pandas as pd

from cxr.dataset.findings import count_findings
from data_checks.expect import between
from data_checks.suite import Table
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

TABLE = Table("findings", "one row per finding and fold", ("finding", "fold"))


def describe(folds: pd.DataFrame) -> pd.DataFrame:
    """Return the counts of each finding in each fold, with the columns that the expectations ask about."""
    overall = pd.DataFrame(count_findings(folds)).T
    rows = pd.concat(
        pd.DataFrame(count_findings(images)).T.rename_axis("finding").reset_index().assign(fold=fold)
        for fold, images in folds.groupby("fold")
    )
    share = rows["n_present"] / (rows["n_present"] + rows["n_absent"])
    share_in_all = overall["n_present"] / (overall["n_present"] + overall["n_absent"])
    return rows.assign(
        n_known=rows["n_present"] + rows["n_absent"],
        share_gap=(share - rows["finding"].map(share_in_all)).abs(),
        groups_with=rows["finding"].map(overall["n_groups_present"]),
        groups_without=rows["finding"].map(overall["n_groups_absent"]),
    ).reset_index(drop=True)


def expectations(n_folds: int, limit: Tolerances) -> list["Expectation"]:
    """Return the suite."""
    enough = f"Every finding is present in images of at least {n_folds} patients, one for each fold."
    without = f"Every finding is absent in images of at least {n_folds} patients, one for each fold."
    share = f"The share of a finding in a fold is within {limit.prevalence_gap:g} of its share in all folds."
    return [
        between("groups_with", "warning", enough, least=n_folds),
        between("groups_without", "warning", without, least=n_folds),
        between("n_known", "warning", "Every finding is known in an image of every fold.", least=1),
        between("share_gap", "warning", share, most=limit.prevalence_gap),
    ]
