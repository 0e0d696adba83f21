"""docs/reference/tables.md against the Parquet files that the program really writes."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from cxr.cli.main import app
from cxr.config import TrainConfig
from cxr.evaluation.on_request.learning_curve import learning_curve
from cxr.evaluation.on_request.stress import stress
from cxr.metrics.classification import COUNTS
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder
from cxr.training.run import Run
from data_checks.gate import check_data, check_results
from data_checks.tolerances import Tolerances
from tests.support.processes import PROJECT
from tests.support.retraining import Site
from tests.support.runs import SMALL, finish_run
from tests.support.shared import NewFolder

PAGE = PROJECT / "docs" / "reference" / "tables.md"
CLASSES = ("NORMAL", "PNEUMONIA")
RUNS = ("first", "second")
TYPES = {"large_string": "string", "double": "float64", "timestamp[us, tz=UTC]": "timestamp[us, UTC]"}
HEADINGS = (
    (
        r"^experiments/[^/]+/external_tests/[^/]+/(?=(predictions|metrics|gap|referral)\.)",
        "experiments/RUN/held_out_test/",
    ),
    (r"^experiments/[^/]+/external_tests/[^/]+/", "experiments/RUN/"),
    (r"^experiments/[^/]+/learning_curve/share=[^/]+/fold=\d+/", "experiments/RUN/folds/fold=FOLD/"),
    (r"^experiments/[^/]+/folds/fold=\d+/", "experiments/RUN/folds/fold=FOLD/"),
    (r"^experiments/[^/]+/", "experiments/RUN/"),
    (r"^appraisals/[^/]+/(?=metrics/predictions\.)", "appraisals/NAME/"),
    (r"^appraisals/[^/]+/", "experiments/RUN/"),
    (r"^comparisons/[^/]+/", "comparisons/NAME/"),
    (r"^models/[^/]+/[^/]+/", "models/NAME/VERSION/"),
    (r"^scores/_feedback/[^/]+/labels/part-\d+\.", "scores/_feedback/NAME/labels/part-*."),
    (r"^scores/_feedback/[^/]+/", "scores/_feedback/NAME/"),
    (r"^scores/[^/]+/part-[0-9a-f]+\.", "scores/BATCH/part-*."),
)
"""Paths as they are written, and how the page spells them: the first that matches counts."""

Tables = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def described() -> Tables:
    """Each table of the page: column name to type, in the page's order."""
    tables: Tables = {}
    columns: dict[str, str] = {}
    for line in PAGE.read_text().splitlines():
        if heading := re.fullmatch(r"## `(.+)`", line):
            columns = tables.setdefault(heading[1], {})
        elif line.startswith("## "):
            columns = {}
        elif row := re.match(r"\| `([^`]+)` \| ([^|]+) \|", line):
            columns[row[1]] = row[2].strip()
    return tables


@pytest.fixture(scope="module")
def written(
    sample: Path,
    elsewhere: Path,
    home: Path,
    scored: Path,
    retrained: Site,
    in_integers: Path,
    new_folder: NewFolder,
) -> list[tuple[str, Path]]:
    """Every Parquet file of two runs with all that can be asked of them, of a package and of a scored inbox.

    What a retraining and 8-bit integers add is from runs of their own. Each with its path as a user sees it.
    """
    place = new_folder("tables")
    run = train(place, str(sample))
    experiments = f"--experiments={place / 'experiments'}"
    stress(run, n_images=8)
    learning_curve(run, [0.5])
    app(["report", "first", "--open-test", f"--external={elsewhere}", experiments])
    app(["compare", *RUNS, f"--out={place / 'comparisons' / 'first_second'}", experiments])
    appraise(place)
    image = next(scored.parent.glob("inbox/*/*.jpeg"))
    folders = [f"--models={home / 'models'}", f"--cache={home / 'cache'}", f"--out={place / 'explanations'}"]
    app(["explain", str(image), "--name=tiny", *folders])
    roots = {name: place / name for name in ("experiments", "appraisals", "comparisons", "explanations")}
    roots |= {"models": home / "models", "scores": label_scores(home, scored, place)}
    found = [(name, root, path) for name, root in roots.items() for path in root.rglob("*.parquet")]
    for root, pattern in (
        (retrained.path / "experiments", "retrain-*/retraining/*.parquet"),
        (in_integers / "experiments", "run/metrics/int8.parquet"),
    ):
        found += [("experiments", root, path) for path in root.glob(pattern)]
    return [(f"{name}/{path.relative_to(root).as_posix()}", path) for name, root, path in found]


def label_scores(home: Path, scored: Path, place: Path) -> Path:
    """Give labels to a copy of the scores, and return it."""
    scores = Path(shutil.copytree(scored, place / "scores"))
    rows = pd.read_parquet(scores).query("status == 'ok'")
    pd.DataFrame({"image_id": rows["image_id"], "label": "NORMAL"}).to_csv(place / "labels.csv", index=False)
    folders = [f"--models={home / 'models'}", f"--out={scores}", f"--cache={place / 'cache'}"]
    with pytest.raises(SystemExit, match="0"):
        app(["feedback", str(place / "labels.csv"), "--name=tiny", *folders])
    return scores


def appraise(place: Path) -> None:
    """Appraise the out-of-fold table of the first run as another program's, with and without its folds."""
    table = files.read_table(RunFolder.named(place / "experiments", "first").predictions)
    for name, content in (("theirs", table), ("without-folds", table.drop(columns="fold"))):
        content.to_parquet(place / f"{name}.parquet")
        folders = [f"--appraisals={place / 'appraisals'}", f"--cache={place / 'cache'}"]
        app(["appraise", str(place / f"{name}.parquet"), *folders])


def train(place: Path, data: str) -> Run:
    """Train a small run of clusters, with the data checks, and return it; make another that predicts the opposite."""
    config = TrainConfig(data=data, holdout="test", leave_out="cluster", **SMALL)
    first, second = (RunFolder.named(place / "experiments", run_id) for run_id in RUNS)
    run = finish_run(place, first.run_id, config)
    check_data(first, config, Tolerances())
    check_results(run, Tolerances())
    shutil.copytree(first.path, second.path, ignore=shutil.ignore_patterns("*.safetensors"))
    predictions = files.read_table(first.predictions)
    one, other = (f"probability_{name}" for name in CLASSES)
    verified.write_table(second.predictions, predictions.assign(**{one: predictions[other], other: predictions[one]}))
    return run


def heading_of(path: str) -> str:
    for pattern, heading in HEADINGS:
        if re.match(pattern, path):
            return re.sub(pattern, heading, path)
    return path


def columns_of(path: Path) -> dict[str, str]:
    """Return column name to type, a class or a run in a name replaced by the page's placeholder."""
    schema = pq.read_schema(path)
    columns = {}
    for name, kind in zip(schema.names, map(str, schema.types), strict=True):
        stem, _, ending = name.partition("_")
        ending = "<class>" if ending in CLASSES else "<run>" if ending in RUNS else ending
        columns[f"{stem}_{ending}" if ending else stem] = TYPES.get(kind, kind)
    return columns


def test_the_page_holds_every_table_and_column_that_is_written_and_nothing_else(
    described: Tables, written: list[tuple[str, Path]]
) -> None:
    found: Tables = {}
    for name, path in written:
        columns = columns_of(path)
        assert found.setdefault(heading_of(name), columns) == columns, name
    assert set(found) == set(described)
    differing = {heading for heading in found if list(found[heading].items()) != list(described[heading].items())}
    assert not differing


def test_the_page_names_every_metric(written: list[tuple[str, Path]]) -> None:
    section = PAGE.read_text().partition("\n## Metrics\n")[2]
    rows = re.findall(r"^\| (`.+`) \|", section, re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    (path,) = [path for name, path in written if name == "experiments/first/metrics/metrics.parquet"]
    assert set(files.read_table(path)["metric"]) == described
    assert set(COUNTS) < described


def test_no_table_has_an_index(written: list[tuple[str, Path]]) -> None:
    for name, path in written:
        assert isinstance(pd.read_parquet(path).index, pd.RangeIndex), name
