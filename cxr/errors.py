"""Everything that can go wrong and is worth a name.

CxrError                a mistake of the user's: one sentence with rule, value and way out; exit code 2
├── ConfigError         a parameter out of range, or two that contradict each other
├── DataError           the images cannot be found or read, or do not have the layout
├── FoldError           folds cannot be made, or the stored ones leak or were damaged
├── WeightsError        pretrained weights are missing or do not fit a ResNet-50
├── DeviceError         a device that this machine does not have
├── RunError            a run that is unknown, in use, unfinished, or was begun with another config
├── PackageError        a packaged model that is unknown, damaged, or may not become champion
├── DiskFullError       no space left; what was there before still stands
├── DamagedError        a file that the program wrote is not as it was written
├── FormatError         a run, a package or scores that another version of cxr wrote
└── ChecksFailedError   a critical expectation about the data failed; the report names the images

UnreadableError              bytes that are no image: the image's reason in a table, never the end of a run
FoldFailedError              a fold's process ended badly: no mistake of the user's, a retry resumes it
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

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
    "not_a_file",
    "not_an_image",
    "permission_denied",
    "too_large",
    "too_small",
    "truncated",
    "unreadable",
    "unsupported_format",
]
"""Why a file is no image that can be used: the code in `reason` of the scores."""


class CxrError(Exception):
    """A mistake of the user's, told in one sentence."""


class ConfigError(CxrError):
    """A parameter is out of range, or two contradict each other."""


class DataError(CxrError):
    """The images cannot be found or read, or do not have the layout."""


class FoldError(CxrError):
    """Folds cannot be made, or the stored ones leak or were damaged."""


class WeightsError(CxrError):
    """Pretrained weights are missing or do not fit a ResNet-50."""


class DeviceError(CxrError):
    """This machine does not have the device."""


class RunError(CxrError):
    """The run is unknown, in use, unfinished, or was begun with another config."""

    @classmethod
    def in_use(cls, what: str, holder: Mapping[str, Any]) -> Self:
        """Return the error that names who holds a lock, by its `pid`, `host` and `since`."""
        pid, host, since = (holder.get(name, "?") for name in ("pid", "host", "since"))
        return cls(f"{what} is in use by process {pid} on {host} since {since}: wait for it to end, or stop it.")


class PackageError(CxrError):
    """The packaged model is unknown, damaged, or may not become champion."""


class DiskFullError(CxrError):
    """There is no space left; what was there before still stands."""


class DamagedError(CxrError):
    """A file that the program wrote is not as it was written."""


class FormatError(CxrError):
    """A run, a package or scores were written by another version of cxr."""


class ChecksFailedError(CxrError):
    """A critical expectation about the data failed; the report names the images."""


class UnreadableError(Exception):
    """The bytes are no image that can be used."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason.replace('_', ' ').replace('dicom', 'DICOM')}: {self.detail}"


class FoldFailedError(Exception):
    """A fold's process ended badly; started again it resumes from its last epoch."""
