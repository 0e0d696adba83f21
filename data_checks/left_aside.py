"""The suite of `left_aside.parquet`. Grain: one row per file found, whether it is read or left aside.

What systems leave behind is only counted. Images in a format that is not read are as bad as files that are damaged: few
are a warning, many are critical. Whatever else is left aside is a warning once it is more than a small share.
"""

from typing import TYPE_CHECKING

import pandas as pd

from cxr.dataset.listing.file_kinds import MADE_BY_SYSTEMS, OTHER_FORMAT
from cxr.wording import percent
from data_checks.expect import absent, one_of
from data_checks.suite import Table
from data_checks.tolerances import Tolerances

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

TABLE = Table("left_aside", "one row per file found, read or left aside", ("path",))
READ = "read"


def describe(left_aside: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return one row per file found, with the columns that the expectations ask about.

    A value is missing where its expectation does not apply to the file.
    """
    read = manifest[["path"]].assign(kind=READ)
    rows = pd.concat([left_aside[["path", "kind"]], read], ignore_index=True)
    kind = rows["kind"]
    return rows.assign(
        aside=kind.where(kind != READ),
        image=kind.where(kind.eq(READ) | kind.str.startswith(OTHER_FORMAT)),
        unexplained=kind.where(~kind.isin(MADE_BY_SYSTEMS)),
    )


def expectations(limit: Tolerances) -> list["Expectation"]:
    """Return the suite."""
    many = f"At least {percent(limit.readable_share)} of the images are in a format that cxr reads: convert the others."
    every = "Every image is in a format that cxr reads (JPEG, PNG, DICOM); others are left out."
    few = (
        f"At most {percent(limit.left_aside_share)} of the files are left aside: hidden, or of another kind than "
        "images."
    )
    none = "No file is left aside."
    return [
        one_of("image", "critical", many, [READ], mostly=limit.readable_share),
        one_of("image", "warning", every, [READ]),
        one_of("unexplained", "warning", few, [READ], mostly=1 - limit.left_aside_share),
        absent("aside", "info", none),
    ]
