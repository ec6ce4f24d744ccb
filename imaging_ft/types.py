"""The closed sets and array types that every layer uses."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal, Protocol, TypeVar, get_args

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

Pixels = npt.NDArray[np.uint8 | np.uint16]
"""One image as stored: [height, width, channels], uint8 or uint16, 1 or 3 channels (RGB)."""

Levels = npt.NDArray[np.uint8]
"""Images after windowing: [..., height, width, channels], 256 levels."""

FloatImage = npt.NDArray[np.float32]
"""One image as fractions of full scale: [height, width, channels], values in [0, 1]."""

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Json = dict[str, Any]


class Task(StrEnum):
    """What a model decides."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"


class Precision(StrEnum):
    """The numbers that an exported network computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class Split(StrEnum):
    """The part of a data set that a sample belongs to."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class Axis(StrEnum):
    """What a condition changes about how an image was taken; conditions are applied in this order."""

    SCENE = "scene"
    ANGLE = "angle"
    MOTION = "motion"
    LIGHTING = "lighting"
    SENSOR = "sensor"


BackboneStage = Literal["stem", "stage1", "stage2", "stage3", "stage4"]
Stage = Literal[BackboneStage, "head"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""The parts of a classifier, in the order in which an image passes them."""


class Status(StrEnum):
    """How much evidence a cell of a report holds."""

    OK = "ok"
    LOW_N = "low_n"
    UNDEFINED = "undefined"


class Track(Protocol):
    """Shows progress over an iterable; a terminal's bar in the command line, nothing elsewhere."""

    def __call__(self, items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
        """Return `items`, showing how many of `total` have passed."""
        ...


def silent(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:  # noqa: ARG001 - the protocol's
    """Return `items` and show nothing."""
    return items
