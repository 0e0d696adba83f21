"""The names of all files under `experiments/`.

The other `*_folder` modules name what is under `models/`, `scores/` and `cache/`; no module outside this package knows
a name on disk. A unit of work is finished when its `complete.json` exists, which is written last.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cxr.errors import ConfigError, RunError
from cxr.storage.files import located

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
SUMS = "SHA256SUMS"
"""The file in each folder of a run, a model or a package that records the hashes of the others."""
WAYS_OUT = {
    "learning_curve/share=*/fold=*/*": "delete its folder and type `cxr learning-curve {3}` with that --share again",
    "folds/fold=*/predictions.parquet": "type `cxr evaluate {2}`, which predicts the images again",
    "folds/fold=*/*": "train the fold again: type the run's `cxr train` with --run-id {2} --redo-fold {fold}",
    "metrics/stress.parquet": "type `cxr stress {1}` again",
    "metrics/learning_curve.parquet": "type `cxr learning-curve {1}` again",
    "metrics/int8.parquet": "type `cxr package {1}` with --int8 again",
    "metrics/*": "type `cxr evaluate {1}`, which writes every table",
    "checks/predictions.json": "type the run's `cxr train` with --run-id {1} again",
    "checks/metrics.json": "type the run's `cxr train` with --run-id {1} again",
    "checks/*": "type `cxr validate` with the run's --data and --run-id {1}",
    "figures/*": "type `cxr report {1}` again",
    "report.html": "type `cxr report {0}` again",
    "report-*.html": "type `cxr report {0}` again",
    "external_tests/*/openings.json": "delete its folder, which loses the record of earlier openings",
    "external_tests/*/gap.parquet": "type `cxr evaluate {2}`; where the test ended halfway, open it again",
    "external_tests/*/referral.parquet": "type `cxr evaluate {2}`; where the test ended halfway, open it again",
    "external_tests/*/*": "type `cxr report {2}` with that --external again",
    "held_out_test/openings.json": "delete its folder, which loses the record of earlier openings",
    "held_out_test/gap.parquet": "type `cxr evaluate {1}`; where the test ended halfway, open it again",
    "held_out_test/referral.parquet": "type `cxr evaluate {1}`; where the test ended halfway, open it again",
    "held_out_test/*": "type `cxr report {1} --open-test` again",
    "retraining/*": "type `cxr retrain` again",
    "run_id": "delete it if it is there, then type `cxr train` with --run-id {0} again",
    "config.json": "delete it if it is there, then type `cxr train` with --run-id {0} again: the folds are kept",
    "*": "delete config.json and type `cxr train` with --run-id {0} again: the folds are kept",
}
"""How a file of a run is made again, by its place in the run's folder; the number counts folders up to the run's."""

FOLDERS = (
    "learning_curve/share=*/fold=*",
    "folds/fold=*",
    "external_tests/*",
    "held_out_test",
    "metrics",
    "figures",
    "checks",
    "retraining",
)
"""The folders within a run."""


def way_out(path: Path) -> str:
    """Return how a file of a run is made again, as part of a sentence."""
    place = PurePosixPath(path.as_posix())
    sentence = next(sentence for pattern, sentence in WAYS_OUT.items() if place.match(pattern))
    return sentence.format(*(parent.name for parent in place.parents), fold=place.parent.name.removeprefix("fold="))


def depth(folder: Path) -> int:
    """Return how many folders up the run is whose files are in a folder; 0 for any other folder."""
    place = PurePosixPath(folder.as_posix())
    return next((pattern.count("/") + 1 for pattern in FOLDERS if place.match(pattern)), 0)


def page_of(number: int, finding: str) -> str:
    """Return the name of the page of one of several findings: its number, and the plain characters of its name."""
    return f"report-{number}-{re.sub(r'[^A-Za-z0-9_-]+', '-', finding)[:60]}.html"


def require_name(flag: str, name: str) -> None:
    """Raise ConfigError unless the name that an option gives is a plain folder name."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{flag} must be letters, digits, '.', '_' or '-', 80 at most and no '.' first, got {name!r}."
        )


@dataclass(frozen=True)
class FoldFolder:
    """The files of one fold."""

    path: Path

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def epochs(self) -> Path:
        return self.path / "epochs.parquet"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def complete(self) -> Path:
        return self.path / "complete.json"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"


@dataclass(frozen=True)
class OutsideTestFolder:
    """The files of a test on images outside cross-validation."""

    path: Path

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.parquet"

    @property
    def gap(self) -> Path:
        """The test's metrics beside those of cross-validation."""
        return self.path / "gap.parquet"

    @property
    def referral(self) -> Path:
        """What it costs and gains to refer images of the test."""
        return self.path / "referral.parquet"

    @property
    def openings(self) -> Path:
        return self.path / "openings.json"


@dataclass(frozen=True)
class RetrainingFolder:
    """What a run of `cxr retrain` is made from, and how its model compares with the champion."""

    path: Path

    @property
    def images(self) -> Path:
        """The data set: the images of the champion's run and those that were labelled since, with their labels."""
        return self.path / "data_set.parquet"

    @property
    def set_aside(self) -> Path:
        """What both models predict for the images that neither was trained on."""
        return self.path / "set_aside.parquet"

    @property
    def outcome(self) -> Path:
        return self.path / "outcome.json"


@dataclass(frozen=True)
class RunFolder:
    """The files of a run: `experiments/<run_id>/`."""

    path: Path

    @classmethod
    def named(cls, experiments: Path, run_id: str) -> "RunFolder":
        """Return the folder of run `run_id`, whether it exists or not.

        Raises:
            ConfigError: `run_id` is not a plain folder name, or the object store cannot be reached.
        """
        require_name("--run-id", run_id)
        return cls(located(experiments / run_id))

    @classmethod
    def existing(cls, run: str, experiments: Path) -> "RunFolder":
        """Return the folder of a run whose images were examined.

        Args:
            run: its id, or the path of its folder.
            experiments: the folder in which an id is looked up.

        Raises:
            RunError: there is no such run.
        """
        for path in (experiments / run, Path(run)):
            folder = cls(located(path))
            if folder.has_begun or (folder.path / SUMS).exists():
                return folder
        raise RunError(
            f"no run {run!r} in {located(experiments)}: give a run id from there, or the path of a run's folder."
        )

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def lock(self) -> Path:
        return self.path.parent / ".locks" / f"{self.run_id}.lock"

    @property
    def identity(self) -> Path:
        """The run's id on the day it was made; the folder may be renamed since."""
        return self.path / "run_id"

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def has_begun(self) -> bool:
        """Whether the run was begun: its config is written after the data have passed their checks."""
        return self.config.exists()

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.parquet"

    @property
    def labels(self) -> Path:
        """What tables of labels say of each image; only of runs that have such tables."""
        return self.path / "labels.parquet"

    @property
    def left_aside(self) -> Path:
        return self.path / "left_aside.parquet"

    @property
    def near_duplicates(self) -> Path:
        return self.path / "near_duplicates.parquet"

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    @property
    def folds(self) -> Path:
        return self.path / "folds.parquet"

    @property
    def certificate(self) -> Path:
        return self.path / "leakage_certificate.json"

    @property
    def predictions(self) -> Path:
        return self.path / "metrics" / "predictions.parquet"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics" / "metrics.parquet"

    @property
    def summary(self) -> Path:
        return self.path / "metrics" / "summary.parquet"

    @property
    def confusion(self) -> Path:
        return self.path / "metrics" / "confusion.parquet"

    def table(self, table: str) -> Path:
        """Return the file of one of the report's tables, other than those of its figures."""
        return self.metrics.with_name(f"{table}.parquet")

    @property
    def figures(self) -> Path:
        """The report's figures: `<name>.svg`, and their numbers, `<name>.parquet`."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def report_of(self, number: int, finding: str) -> Path:
        """Return the page of one of several findings, named by its number and the plain characters of its name."""
        return self.path / page_of(number, finding)

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def retraining(self) -> RetrainingFolder:
        return RetrainingFolder(self.path / "retraining")

    @property
    def held_out_test(self) -> OutsideTestFolder:
        return OutsideTestFolder(self.path / "held_out_test")

    def external_test(self, data: Path) -> OutsideTestFolder:
        """Return the folder of the test on an external test set, named after the set."""
        digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:8]
        return OutsideTestFolder(
            self.path / "external_tests" / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', data.stem)[:60]}-{digest}"
        )

    def external_tests(self) -> list[OutsideTestFolder]:
        """Return the tests on external test sets that were made."""
        found = (self.path.glob(f"external_tests/*/{name}") for name in ("openings.json", SUMS))
        return [OutsideTestFolder(folder) for folder in sorted({path.parent for paths in found for path in paths})]

    @property
    def checks(self) -> Path:
        return self.path / "checks"

    @property
    def expectations(self) -> Path:
        return self.checks / "expectations.parquet"

    @property
    def acquisition_baseline(self) -> Path:
        return self.checks / "acquisition_baseline.parquet"

    @property
    def checks_report(self) -> Path:
        return self.checks / "report.html"

    def verdict(self, table: str) -> Path:
        """Return the file with the verdict of the data checks on a table."""
        return self.checks / f"{table}.json"

    def fold(self, fold: int) -> FoldFolder:
        """Return the folder of one fold."""
        return FoldFolder(self.path / "folds" / f"fold={fold}")

    def fold_of_share(self, share: float, fold: int) -> FoldFolder:
        """Return the folder of a fold that is trained on a share of the patients, for the learning curve."""
        return FoldFolder(self.path / "learning_curve" / f"share={share:g}" / f"fold={fold}")


@dataclass(frozen=True)
class ComparisonFolder:
    """The tables of a comparison of runs."""

    path: Path

    @property
    def metrics(self) -> Path:
        return self.path / "comparison.parquet"

    @property
    def changed_images(self) -> Path:
        return self.path / "changed_images.parquet"


@dataclass(frozen=True)
class ExplanationFolder:
    """Pictures of where a model looked, and their table."""

    path: Path

    @property
    def table(self) -> Path:
        return self.path / "explanations.parquet"

    def picture(self, number: int, stem: str) -> Path:
        """Return the file of an image's picture, named by a number and the plain characters of the image's name."""
        return self.path / f"{number:03d}-{re.sub(r'[^A-Za-z0-9_-]+', '-', stem)[:80]}.png"
