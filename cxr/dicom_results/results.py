"""The step after a scoring run: DICOM results of what it has published, written and sent."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxr.config import DicomNode, ScoreConfig
from cxr.dicom_results.sending import send_missing
from cxr.dicom_results.writing import Writer
from cxr.errors import ConfigError, DiskError
from cxr.serving.scoring.scoring_runs import ScoringRun
from cxr.storage import files
from cxr.storage.dicom_folder import DicomFolder
from cxr.storage.local_files import disk_full_as_error
from cxr.storage.scores_folder import ScoresFolder

NEEDED = ("highdicom", "pynetdicom", "pydicom")


def require_possible(inbox: Path, config: ScoreConfig) -> None:
    """Raise ConfigError if DICOM results are asked for and could not be written; call it before anything is scored.

    Args:
        inbox: which is never written to.
        config: of the scoring run.
    """
    if config.dicom_out is None:
        return
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        raise ConfigError(
            "--dicom-out needs highdicom and pynetdicom, which are not installed: install cxr with the extra "
            "[dicom-out]."
        )
    files.require_local("--dicom-out", config.dicom_out)
    files.require_local("the inbox of --dicom-out", inbox)
    folder = _folder(config.dicom_out)
    for option, other in (("the inbox", inbox.expanduser().resolve()), ("--out", ScoresFolder.at(config.out).path)):
        if folder.path.is_relative_to(other):
            raise ConfigError(
                f"--dicom-out {str(config.dicom_out)!r} is inside {option}, where other files are: give another."
            )


def write_and_send(run: ScoringRun) -> None:
    """Write the DICOM results that are missing, and send those that their node has not confirmed, if that is asked for.

    Raises:
        DiskError: something cannot be read or written.
        NodeError: the node cannot be reached, or has not taken all; what is written is kept.
        RunError: another process holds the folder.
    """
    config = run.config
    if config.dicom_out is None:
        return
    folder = _folder(config.dicom_out)
    with _exclusive(folder):
        files.sweep(folder.work)
        Writer(run, folder).write_missing()
        if config.dicom_to is not None:
            send_missing(folder, DicomNode.parse(config.dicom_to), config.dicom_as)


def _folder(path: Path) -> DicomFolder:
    return DicomFolder(path.expanduser().resolve())


@contextmanager
def _exclusive(folder: DicomFolder) -> Iterator[None]:
    """Hold the lock of the folder; turn an error of the operating system into one sentence."""
    try:
        what = f"the folder of DICOM results {str(folder.path)!r}"
        with disk_full_as_error(folder.path), files.locked(folder.lock, what):
            yield
    except OSError as error:
        if error.errno is None:
            raise
        raise DiskError.of(error, folder.path) from error
