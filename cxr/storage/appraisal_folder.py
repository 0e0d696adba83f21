"""The names of all files under `appraisals/`."""

import re
from dataclasses import dataclass
from pathlib import Path

from cxr.errors import RunError
from cxr.storage.files import require_local
from cxr.storage.run_folder import page_of, require_name

RECORD = "appraisal.json"


def way_out(path: Path) -> str | None:
    """Return how a file of an appraisal is made again, as part of a sentence; None for another file."""
    places = (path.parent, path.parent.parent)
    is_of_appraisal = path.name == RECORD or any((place / RECORD).exists() for place in places)
    return "delete the folder of the appraisal and type its `cxr appraise` again" if is_of_appraisal else None


@dataclass(frozen=True)
class AppraisalFolder:
    """The files of an appraisal: `appraisals/<name>/`, named as those of a run are."""

    path: Path

    @classmethod
    def named(cls, appraisals: Path, name: str) -> "AppraisalFolder":
        """Return the folder of an appraisal, whether it exists or not.

        Raises:
            ConfigError: `name` is not a plain folder name, or the folder is in an object store.
        """
        require_local("--appraisals", appraisals)
        require_name("--name", name)
        return cls(appraisals / name)

    @classmethod
    def found(cls, name: str, appraisals: Path) -> "AppraisalFolder | None":
        """Return the folder of an appraisal that exists; None if there is none.

        Args:
            name: its name, or the path of its folder.
            appraisals: the folder in which a name is looked up.

        Raises:
            RunError: it is a table of predictions that nobody has appraised.
        """
        for path in (appraisals / name, Path(name)):
            folder = cls(path.resolve())
            if folder.record.is_file():
                return folder
        if Path(name).is_file():
            raise RunError(
                f"{name!r} is a file: type `cxr appraise` with it, and give the name of the appraisal, which holds its "
                "predictions."
            )
        return None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def lock(self) -> Path:
        return self.path.parent / ".locks" / f"{self.name}.lock"

    @property
    def record(self) -> Path:
        """Which file and columns were read, and counts."""
        return self.path / RECORD

    @property
    def predictions(self) -> Path:
        return self.table("predictions")

    def table(self, table: str) -> Path:
        """Return the file of one of the tables, other than those of the report's figures."""
        return self.path / "metrics" / f"{table}.parquet"

    @property
    def figures(self) -> Path:
        """The report's figures: `<name>.svg`, and their numbers, `<name>.parquet`."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def report_of(self, number: int, finding: str) -> Path:
        """Return the page of one of several findings, named as that of a run is."""
        return self.path / page_of(number, finding)


def default_name(file: Path) -> str:
    """Return the name of the appraisal of a file: the plain characters of its name, without suffixes."""
    stem = re.sub(r"(\.[A-Za-z]+)(\.gz)?$", "", file.name)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:80] or "predictions"
