"""Every failure that imaging_ft raises on purpose.

```
ImagingFtError                 a user's mistake or a refused result; one line: what, where, how to mend it
├── InputError                 the input or the command is wrong                                    exit 2
│   ├── ConfigError            a YAML file or a setting is wrong
│   ├── ImageError             an image file can't be read as it is
│   ├── DataError              the data set is wrong: rows, labels, splits, leakage
│   │   └── ArchiveError       a downloaded archive is damaged, or holds what is refused
│   ├── BundleError            the ONNX file isn't a bundle, or is damaged
│   ├── RunError               the run folder is missing, taken or incomplete
│   ├── WeightsError           the pretrained weights or the model's name can't be had
│   ├── DeviceError            the device that was asked for can't run here
│   └── UnknownModelError      no model of that name is served
├── ServiceError               a request can't be answered now, whatever is in it                   exit 2
│   ├── QueueFullError         too much waits already; try again later
│   ├── ExpiredError           its deadline passed before it ran
│   └── DrainingError          the service is stopping
└── GateError                  the work was done and its result was refused                         exit 1
    ├── ParityError            the exported file does not agree with the trained model
    └── PrecisionError         a lower precision costs more than is allowed
```
"""

from typing import ClassVar


class ImagingFtError(Exception):
    """A failure whose message is one line for the user: what is wrong, where, and how to mend it."""

    exit_code: ClassVar[int] = 2


class InputError(ImagingFtError):
    """The input or the command is wrong."""


class ConfigError(InputError):
    """A YAML file or a setting is wrong."""


class ImageError(InputError):
    """An image file can't be read as it is."""


class DataError(InputError):
    """A data set is wrong: its rows, labels or splits, or images that leak from one split into another."""


class ArchiveError(DataError):
    """A downloaded archive is damaged, of another kind, or holds what is refused."""


class BundleError(InputError):
    """An ONNX file isn't a bundle of this project, or is damaged."""


class RunError(InputError):
    """A run folder is missing, already taken, or incomplete."""


class WeightsError(InputError):
    """A model's name is unknown, or its pretrained weights can't be had."""


class DeviceError(InputError):
    """A device that was asked for can't run here."""


class UnknownModelError(InputError):
    """No model of that name is served."""


class ServiceError(ImagingFtError):
    """A request can't be answered now, whatever is in it."""


class QueueFullError(ServiceError):
    """Too much waits already."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which it is worth trying again."""


class ExpiredError(ServiceError):
    """A request's deadline passed before it ran."""


class DrainingError(ServiceError):
    """The service is stopping, and takes no more."""


class GateError(ImagingFtError):
    """The work was done, and its result was refused."""

    exit_code: ClassVar[int] = 1


class ParityError(GateError):
    """The exported file does not agree with the trained model."""


class PrecisionError(GateError):
    """A lower precision costs more than is allowed."""
