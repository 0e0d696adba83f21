"""Referral in a report: the tables of tests outside cross-validation, which are computed when the report is written."""

import pandas as pd

from cxr.classes import Classes, Findings
from cxr.evaluation.findings import FindingsOutOfFold
from cxr.evaluation.out_of_fold import OutOfFold
from cxr.evaluation.referral import outside_referral_table
from cxr.report.run.outside import tests_of
from cxr.storage import verified
from cxr.storage.run_folder import RunFolder

Tables = dict[str, pd.DataFrame]


def write_outside_referrals(folder: RunFolder, predictions: pd.DataFrame, outputs: Classes | Findings) -> Tables:
    """Write the table `referral` of each test outside cross-validation; return them by the place of their files.

    Args:
        folder: of the run.
        predictions: its out-of-fold table.
        outputs: of the run.
    """
    tests = tests_of(folder)
    if not tests:
        return {}
    several = isinstance(outputs, Findings)
    internal = FindingsOutOfFold(predictions, outputs) if several else OutOfFold(predictions, outputs)
    tables: Tables = {}
    for name, test in tests.items():
        tables[f"{name}/referral"] = outside_referral_table(verified.read_table(test.predictions), internal)
        verified.write_table(test.referral, tables[f"{name}/referral"])
    return tables
