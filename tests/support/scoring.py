"""Running `cxr score` as a user does, and reading the rows that it publishes."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.config import ScoreConfig
from cxr.pipeline import score_inbox
from cxr.serving.scoring.scoring_runs import ScoringRun
from cxr.verdict import Verdict
from tests.support.processes import BIN, run_to_the_end
from tests.support.secrets import SECRET, SECRETS, assert_no_secret


def command(home: Path, inbox: Path, out: Path, *more: str) -> list[str]:
    """Return the command that scores an inbox with the model `tiny`."""
    places = [f"--models={home / 'models'}", f"--cache={home / 'cache'}", f"--out={out}"]
    return [str(BIN / "cxr"), "score", str(inbox), "--name=tiny", "--settle=0", "--compile=off", *places, *more]


def score(home: Path, inbox: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Score with secrets in the environment; none may be printed or written."""
    result = run_to_the_end(command(home, inbox, out, *more), os.environ | SECRETS)
    assert SECRET not in result.stdout + result.stderr
    assert_no_secret(out)
    return result


def table(out: Path) -> pd.DataFrame:
    """Return the published rows, sorted and without the time of scoring."""
    rows = pd.concat([pd.read_parquet(part) for part in out.glob("[!_]*/*.parquet")])
    return rows.drop(columns="scored_at").sort_values(["batch", "path", "image_id"], ignore_index=True)


def score_to_dicom(home: Path, place: Path, *, hold: bool = False, **fields: Any) -> ScoringRun:
    """Score `inbox` in a folder into its `scores`, with DICOM results for its `results`; they are not written yet."""
    config = ScoreConfig(
        name="tiny",
        models=home / "models",
        cache=home / "cache",
        out=place / "scores",
        dicom_out=place / "results",
        settle=0,
        device="cpu",
        compile="off",
        **fields,
    )
    verdicts = [Verdict("scores", "file", "critical", [])] if hold else []
    return score_inbox(place / "inbox", config, lambda *_: verdicts)[0]
