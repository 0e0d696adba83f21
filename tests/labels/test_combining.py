"""One row for each image: against a slow loop over the rows."""

import itertools

import numpy as np
import pandas as pd
import pytest

from cxr.errors import ConfigError, DataError
from cxr.labelling import Rows
from cxr.labels.combining import combine_facts, combine_findings


def slow(votes: list[bool | None], rule: Rows) -> bool | None:
    known = [vote for vote in votes if vote is not None]
    if not known:
        return None
    if rule == "any":
        return any(known)
    if rule == "unanimous":
        return known[0] if len(set(known)) == 1 else None
    balance = sum(1 if vote else -1 for vote in known)
    return None if balance == 0 else balance > 0


@pytest.mark.parametrize("rule", ["any", "majority", "unanimous"])
def test_every_pattern_of_votes_gives_what_a_loop_gives(rule: Rows) -> None:
    patterns = [votes for n in (1, 2, 3) for votes in itertools.product((True, False, None), repeat=n)]
    rows = [(f"{k:03d}.png", vote) for k, votes in enumerate(patterns) for vote in votes]
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = pd.DataFrame([rows[k] for k in order], columns=["file", "A"]).astype({"A": "boolean", "file": "str"})
    found = combine_findings(shuffled[["A"]], shuffled["file"], rule)["A"]
    expected = {f"{k:03d}.png": slow(list(votes), rule) for k, votes in enumerate(patterns)}
    assert {key: None if value is pd.NA else bool(value) for key, value in found.items()} == expected


def test_rows_that_disagree_ask_for_a_rule() -> None:
    findings = pd.DataFrame({"Pneumonia": [True, False, True, True]}, dtype="boolean")
    files = pd.Series(["X", "X", "X", "Y"])
    with pytest.raises(ConfigError, match=r"image 'X' has rows that disagree \(Pneumonia 1, 0, 1\).*give --rows any"):
        combine_findings(findings, files, None)
    assert combine_findings(findings.iloc[2:], files.iloc[2:], None)["Pneumonia"].tolist() == [True, True]


def test_an_image_has_one_patient() -> None:
    rows = pd.DataFrame({"patient": ["1", None, "2", "3"]})
    files = pd.Series(["X", "X", "Y", "Y"])
    assert combine_facts(rows.iloc[:3], files.iloc[:3], ["patient"])["patient"].tolist() == ["1", "2"]
    with pytest.raises(DataError, match=r"image 'Y' has rows that disagree \(patient 2, 3\): correct the tables"):
        combine_facts(rows, files, ["patient"])
