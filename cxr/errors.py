"""Everything that can go wrong and is worth a name.

CxrError                a mistake of the user's: one sentence with rule, value and way out; exit code 2
├── ConfigError         a parameter out of range, or two that contradict each other
├── DataError           the films cannot be found or read, or do not have the layout
├── FoldError           folds cannot be made, or the stored ones leak or were damaged
├── WeightsError        pretrained weights are missing or do not fit a ResNet-50
├── DeviceError         a device that this machine does not have
├── RunError            a run that is unknown, in use, unfinished, or was begun with another config
└── ChecksFailedError   a critical expectation about the data failed; the report names the films

UnreadableError              bytes that are no film: the film's reason in the manifest, never the end of a run
FoldFailedError              a fold's process ended badly: no mistake of the user's, a retry resumes it
"""


class CxrError(Exception):
    """A mistake of the user's, told in one sentence."""


class ConfigError(CxrError):
    """A parameter is out of range, or two contradict each other."""


class DataError(CxrError):
    """The films cannot be found or read, or do not have the layout."""


class FoldError(CxrError):
    """Folds cannot be made, or the stored ones leak or were damaged."""


class WeightsError(CxrError):
    """Pretrained weights are missing or do not fit a ResNet-50."""


class DeviceError(CxrError):
    """This machine does not have the device."""


class RunError(CxrError):
    """The run is unknown, in use, unfinished, or was begun with another config."""


class ChecksFailedError(CxrError):
    """A critical expectation about the data failed; the report names the films."""


class UnreadableError(Exception):
    """The bytes are no film that can be used; the message is the reason."""


class FoldFailedError(Exception):
    """A fold's process ended badly; started again it resumes from its last epoch."""
