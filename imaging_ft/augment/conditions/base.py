"""A condition: one physical change to how an image was taken, at five severities."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imaging_ft.types import Axis, FloatImage, Pixels

Apply = Callable[[FloatImage, float, np.random.Generator], FloatImage]
"""Image [height, width, channels] in [0, 1], the parameter's value and a generator to the changed image."""

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Condition:
    """A physical change with its parameter's value at each severity."""

    name: str
    axis: Axis
    title: str
    parameter: str
    """What the values are, with the unit."""
    neutral: float
    """The parameter's value that changes nothing: severity 0."""
    values: tuple[float, float, float, float, float]
    """The parameter's value at severities 1 to 5."""
    apply: Apply
    channels: tuple[int, ...] = (1, 3)
    """The numbers of channels of the images that it takes."""

    def value(self, severity: float) -> float:
        """Return the parameter at a severity from 0 to 5; between whole severities it is interpolated."""
        if not 0 <= severity <= 5:
            raise ValueError(f"{self.name}: severity {severity} is not within 0 to 5")
        return float(np.interp(severity, (0, *SEVERITIES), (self.neutral, *self.values)))


def seeded(seed: int, sample_id: str, condition: str, severity: float) -> np.random.Generator:
    """Return the generator for one sample under one condition, so that a report is the same bytes twice."""
    key = f"{seed}\t{sample_id}\t{condition}\t{severity:g}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8], "big"))


def to_float(pixels: Pixels, *, window: tuple[int, int] | None = None) -> FloatImage:
    """Return stored pixels (uint8 or uint16) as fractions of a window, or of full scale, float32 in [0, 1]."""
    low, high = window or (0, int(np.iinfo(pixels.dtype).max))
    return np.clip((pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low), 0.0, 1.0)


def to_pixels(
    image: FloatImage,
    dtype: np.dtype[np.uint8 | np.uint16],
    *,
    window: tuple[int, int] | None = None,
) -> Pixels:
    """Return an image in [0, 1] as stored pixels of a dtype, within a window or over the full scale.

    Values outside [0, 1] are clipped.
    """
    low, high = window or (0, int(np.iinfo(dtype).max))
    scaled = np.clip(image, 0.0, 1.0) * np.float32(high - low) + np.float32(low)
    return np.ascontiguousarray(np.rint(scaled).astype(dtype))
