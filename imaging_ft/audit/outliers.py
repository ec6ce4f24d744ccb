"""Images unlike the rest of their data set: in size, light, contrast, sharpness; blank ones; false colour."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imaging_ft.audit.measure import Measures
from imaging_ft.types import Floats, Ints

ROBUST_Z = 5.0
"""|x − median| / (1.4826 · MAD) from which a value is an outlier; 3.5 (Iglewicz & Hoaglin 1993) flags one normal
value in two thousand, too many where a person has to look at each."""
BLANK_CONTRAST = 0.01
"""An image is blank where the levels' standard deviation is below this fraction of full scale."""
NARROW_SCALE = 0.25
"""16-bit values that use a smaller part of the full scale than this need a window."""


@dataclass(frozen=True)
class Measure:
    """One quantity that is looked at for outliers."""

    name: str
    values: Floats
    """[n], as a person reads it."""
    z: npt.NDArray[np.float64]
    """[n]: robust z-score on the scale named."""
    form: str
    """How one value is written."""

    @property
    def outliers(self) -> Ints:
        """Positions of the outliers, the furthest first."""
        found = np.flatnonzero(np.abs(self.z) >= ROBUST_Z)
        return found[np.argsort(-np.abs(self.z[found]), kind="stable")]


def robust_z(values: Floats, *, floor: float) -> npt.NDArray[np.float64]:
    """Return (x − median) / (1.4826 · MAD); the spread is at least `floor`.

    Without the floor, a data set of which more than half are the same size would have every other as an outlier.
    """
    middle = np.median(values)
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), floor)
    return np.asarray((values - middle) / spread, np.float64)


def measures(found: Measures, blank: npt.NDArray[np.bool_]) -> list[Measure]:
    """Return the quantities with their z-scores; blank images count in none, they are a finding of their own."""
    area = np.sqrt(found.sizes[:, 0] * found.sizes[:, 1]).astype(np.float64)
    aspect = found.sizes[:, 1] / found.sizes[:, 0]
    quantities = [
        # name, as read, as compared, floor of the spread, form
        ("size", area, np.log2(area), 0.2, "{:.0f} px (root of the area)"),
        ("aspect", aspect, np.log2(aspect), 0.1, "width / height {:.2f}"),
        ("brightness", found.brightness, found.brightness, 0.02, "brightness {:.2f}"),
        ("contrast", found.contrast, found.contrast, 0.01, "contrast {:.3f}"),
        ("sharpness", found.sharpness, np.log2(np.maximum(found.sharpness, 1e-3)), 0.2, "sharpness {:.3f}"),
    ]
    result: list[Measure] = []
    for name, values, compared, floor, form in quantities:
        z = np.zeros(len(values))
        if (~blank).any():
            z[~blank] = robust_z(compared[~blank], floor=floor)
        result.append(Measure(name, values, z, form))
    return result


def is_blank(found: Measures) -> npt.NDArray[np.bool_]:
    """Return which images [n] show nothing."""
    return found.contrast < BLANK_CONTRAST


def narrow_window(found: Measures) -> tuple[int, int] | None:
    """Return the stored 16-bit values that most images lie between where they use little of the scale, else None."""
    low, high = float(np.percentile(found.low, 1)), float(np.percentile(found.high, 99))
    if high - low >= NARROW_SCALE or high <= low:
        return None
    return int(low * 65535), max(int(np.ceil(high * 65535)), int(low * 65535) + 1)
