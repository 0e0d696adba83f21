"""Everything that can go wrong and deserves a name.

CxrError                a mistake that the user can correct: one sentence with rule, value and way out; exit code 2
├── ConfigError         a parameter is out of range, or two parameters contradict each other
├── DataError           the images are missing, unreadable, or not laid out as expected
├── FoldError           folds cannot be made, or the stored folds leak or are damaged
├── WeightsError        pretrained weights are missing or do not fit a ResNet-50
├── DeviceError         this machine does not have the device
├── TaskError           one label per image is needed where there are several findings, or the reverse
├── RunError            a run is unknown, in use, unfinished, or was begun with another config
├── PackageError        a packaged model is unknown, damaged, or may not become champion
├── NodeError           a DICOM node cannot be reached, or does not take what it is sent
├── DiskError           the operating system cannot read or write a file
├── DiskFullError       the disk is full; what was written before is intact
├── DamagedError        a file that cxr wrote has changed since
├── FormatError         another version of cxr wrote the run, the package or the scores
└── ChecksFailedError   a critical expectation about the data failed; the report names the images

UnreadableError         one file is not a usable image: its reason goes into a table, and the run goes on
FoldFailedError         a fold's process failed through no mistake of the user's; a retry resumes the fold
"""

import os
from collections.abc import Mapping
from typing import Any, Literal, Self

from cxr.wording import visible

Reason = Literal[
    "blank",
    "broken_link",
    "changed_while_read",
    "colour_photograph",
    "damaged",
    "dicom_of_something_else",
    "empty",
    "link_leaves_inbox",
    "link_to_folder",
    "missing_decoder",
    "not_a_file",
    "not_an_image",
    "other_file",
    "permission_denied",
    "short_of_memory",
    "too_complex",
    "too_large",
    "too_small",
    "truncated",
    "unreadable",
    "unsupported_format",
]
"""Why a file is not a usable image: the codes in the column `reason` of the scores."""


class CxrError(Exception):
    """A mistake that the user can correct, explained in one sentence: the rule, the value, and the way out.

    Names that the sentence quotes stay on its line, and their control characters are escaped.

    Example:
        >>> try:
        ...     cxr.TrainConfig(data="chest_xray", folds=1)
        ... except cxr.CxrError as error:
        ...     print(error)
        --folds must lie between 2 and 20, got 1.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(visible(sentence))


class ConfigError(CxrError):
    """A parameter is out of range, or two parameters contradict each other."""


class DataError(CxrError):
    """The images are missing, unreadable, or not laid out as expected."""


class FoldError(CxrError):
    """Folds cannot be made, or the stored folds leak or are damaged."""


class WeightsError(CxrError):
    """Pretrained weights are missing or do not fit a ResNet-50."""


class DeviceError(CxrError):
    """This machine does not have the device."""


class TaskError(CxrError):
    """One label per image is needed where there are several findings, or the reverse."""


class RunError(CxrError):
    """The run is unknown, in use, unfinished, or was begun with another config."""

    @classmethod
    def in_use(cls, what: str, holder: Mapping[str, Any]) -> Self:
        """Return the error for a lock that another process holds.

        Args:
            what: what is locked, such as `run 'first'`.
            holder: `pid`, `host` and `since` of the process, as far as they are known.
        """
        pid, host, since = (holder.get(name, "?") for name in ("pid", "host", "since"))
        return cls(f"{what} is in use by process {pid} on {host} since {since}: wait for it to end, or stop it.")


class PackageError(CxrError):
    """The packaged model is unknown, damaged, or may not become champion."""


class NodeError(CxrError):
    """A DICOM node cannot be reached, or does not take what it is sent; what was not sent is kept."""


class DiskError(CxrError):
    """The operating system cannot read or write a file; what was written before is intact."""

    @classmethod
    def of(cls, error: OSError, place: object) -> Self:
        """Return the error for what the operating system reports.

        Args:
            error: its report.
            place: the file or folder, if the report names none.
        """
        cause = os.strerror(error.errno) if error.errno else str(error)
        return cls(
            f"{str(error.filename or place)!r} cannot be read or written ({cause}): mend that and type the same "
            "command again; nothing is lost."
        )


class DiskFullError(CxrError):
    """The disk is full; what was written before is intact."""


class DamagedError(CxrError):
    """A file that cxr wrote has changed since."""


class FormatError(CxrError):
    """Another version of cxr wrote the run, the package or the scores."""


class ChecksFailedError(CxrError):
    """A critical expectation about the data failed; the report names the images."""


class UnreadableError(Exception):
    """One file is not a usable image.

    Args:
        reason: the code that goes into the table.
        detail: what exactly is wrong with the file.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, visible(detail))
        self.reason: Reason = reason
        self.detail = visible(detail)

    def __str__(self) -> str:
        return f"{self.reason.replace('_', ' ').replace('dicom', 'DICOM')}: {self.detail}"


class FoldFailedError(Exception):
    """A fold's process failed; when it is started again, it resumes from its last checkpoint."""

    def __init__(self, sentence: str) -> None:
        super().__init__(visible(sentence))
