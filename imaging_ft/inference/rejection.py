"""Whether an image should be answered for at all, so that software can abstain instead of guessing."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imaging_ft.bundle import Bundle

BLANK = 1 / 255
"""A standard deviation below one level is no picture, whatever validation held."""
_SCALE = np.arange(256) / 255


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
    bundle: Bundle, levels: npt.NDArray[np.uint8 | np.float32], *, distance: float | None = None
) -> str | None:
    """Return in a few words why an image should not be answered for; None where nothing speaks against it.

    `levels` [channels, height, width] are what the network was given, `distance` is what its file said of them. A
    bundle that knows no bounds rejects nothing.
    """
    quality, ood = bundle.quality, bundle.ood
    if quality is not None:
        looks = measure(levels)
        if looks.contrast < max(BLANK, quality.contrast):
            blank = looks.contrast < BLANK
            return "blank" if blank else f"no contrast ({looks.contrast:.3f}, least {quality.contrast:.3f})"
        least, most = quality.brightness
        if looks.brightness < least:
            return f"too dark ({looks.brightness:.3f}, least {least:.3f})"
        if looks.brightness > most:
            return f"too bright ({looks.brightness:.3f}, most {most:.3f})"
        if looks.clipped > quality.clipped:
            return f"clipped ({looks.clipped:.3f} of the values, most {quality.clipped:.3f})"
    if ood is not None and distance is not None and not distance <= ood.threshold:
        return f"unlike the training images (distance {distance:.1f}, most {ood.threshold:.1f})"
    return None
