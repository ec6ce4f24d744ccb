"""Whether an image should be answered for at all, so that software can abstain instead of guessing."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from imaging_ft.bundle import Bundle

BLANK = 1 / 255
"""A standard deviation below one level is no picture, whatever validation held."""
_SCALE = np.arange(256) / 255


class Kind(StrEnum):
    """Why an image isn't answered for."""

    BLANK = "blank"
    FLAT = "no contrast"
    DARK = "too dark"
    BRIGHT = "too bright"
    CLIPPED = "clipped"
    UNLIKE = "unlike the training images"


REASONS = tuple(Kind)


@dataclass(frozen=True)
class Rejection:
    """A kind, and the figures behind it in words; as a text both."""

    kind: Kind
    figures: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.figures})" if self.figures else str(self.kind)


@dataclass(frozen=True)
class Looks:
    """Measures of what the network is given, as shares of full scale."""

    brightness: float
    contrast: float
    clipped: float


def measure(levels: npt.NDArray[np.uint8 | np.float32]) -> Looks:
    """Return the measures of one image's levels [channels, height, width], from 0 to 255."""
    if levels.dtype != np.uint8:  # of a host that prepares its images: whole levels, as floats
        levels = np.rint(levels).astype(np.uint8)
    # By how often each level occurs: nine times as fast as over the values, and a service does it for each image.
    shares = np.bincount(levels.ravel(), minlength=256) / levels.size
    mean = float(shares @ _SCALE)
    return Looks(mean, float(np.sqrt(shares @ (_SCALE - mean) ** 2)), float(shares[0] + shares[-1]))


def rejection(
    bundle: Bundle, levels: npt.NDArray[np.uint8 | np.float32], distance: float | None = None
) -> Rejection | None:
    """Return why an image should not be answered for; None where nothing speaks against it.

    `levels` [channels, height, width] are what the network was given, `distance` is what its file said of them. A
    bundle that knows no bounds rejects nothing.
    """
    quality, ood = bundle.quality, bundle.ood
    if quality is not None:
        looks = measure(levels)
        if looks.contrast < max(BLANK, quality.contrast):
            if looks.contrast < BLANK:
                return Rejection(Kind.BLANK)
            return Rejection(Kind.FLAT, f"{looks.contrast:.3f}, least {quality.contrast:.3f}")
        least, most = quality.brightness
        if looks.brightness < least:
            return Rejection(Kind.DARK, f"{looks.brightness:.3f}, least {least:.3f}")
        if looks.brightness > most:
            return Rejection(Kind.BRIGHT, f"{looks.brightness:.3f}, most {most:.3f}")
        if looks.clipped > quality.clipped:
            return Rejection(Kind.CLIPPED, f"{looks.clipped:.3f} of the values, most {quality.clipped:.3f}")
    if ood is not None and distance is not None and not distance <= ood.threshold:
        return Rejection(Kind.UNLIKE, f"distance {distance:.1f}, most {ood.threshold:.1f}")
    return None
