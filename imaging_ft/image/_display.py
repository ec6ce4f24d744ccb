"""DICOM's grayscale pipeline, from stored values to display values (PS3.3 C.11.1 and C.11.2, PS3.4 N.2).

```
stored ── modality LUT or rescale ──> modality values (such as Hounsfield units)
       ── VOI LUT or window ────────> fractions of the display range
       ── inverted for MONOCHROME1 ─> 0 is black
```
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from imaging_ft.errors import ImageError

Values = npt.NDArray[np.float64]
VoiFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]


@dataclass(frozen=True)
class Rescale:
    """A modality value is slope x stored + intercept."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True)
class Lut:
    """A table for the values from `first` on; values before and after it take its first and last entry."""

    first: int
    bits: int
    table: npt.NDArray[np.uint16]

    def __call__(self, values: Values) -> Values:
        """Return the entry of each value, within 0 and `top`."""
        at = np.clip(np.rint(values) - self.first, 0, len(self.table) - 1).astype(np.int64)
        return np.minimum(self.table[at].astype(np.float64), self.top)

    @property
    def top(self) -> int:
        """The largest output value, 2^bits - 1."""
        return (1 << self.bits) - 1


@dataclass(frozen=True)
class Window:
    """A VOI window in modality values (C.11.2.1.2, C.11.2.1.3)."""

    center: float
    width: float
    function: VoiFunction = "LINEAR"

    def __post_init__(self) -> None:
        rule = "at least 1" if self.function == "LINEAR" else "more than 0"
        good = self.width >= 1.0 if self.function == "LINEAR" else self.width > 0.0
        if not good or not np.isfinite([self.center, self.width]).all():
            raise ImageError(
                f"the window (center {self.center}, width {self.width}, {self.function}) is not valid: "
                f"the width must be {rule}; correct or delete the window tags"
            )

    def __call__(self, values: Values) -> Values:
        """Return the fraction of the display range, 0 to 1, of each modality value."""
        if self.function == "SIGMOID":
            # tanh is the same curve as 1 / (1 + exp(-4 (x - c) / w)), and can't overflow.
            return 0.5 + 0.5 * np.tanh(2.0 * (values - self.center) / self.width)
        # LINEAR counts pixels' centres: half a value to the left, and one value narrower.
        off = 0.5 if self.function == "LINEAR" else 0.0
        center, width = self.center - off, self.width - 2 * off
        if width == 0:
            return (values > center).astype(np.float64)
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def display_table(
    low: int, high: int, *, modality: Rescale | Lut, voi: Window | Lut | None, inverted: bool
) -> npt.NDArray[np.uint16]:
    """Return the display value, 0 to 65535, of every stored value from `low` to `high`, in that order.

    Without a VOI transform the whole range that modality values can have is shown. `inverted` is for
    MONOCHROME1, where the smallest value is meant to be white; it comes after the VOI transform.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        fractions = _fractions(np.arange(low, high + 1, dtype=np.float64), modality, voi)
    if not np.isfinite(fractions).all():
        raise ImageError("RescaleSlope or RescaleIntercept is not a finite number; correct the tag")
    shown = np.rint(fractions * 65535.0)
    return (65535.0 - shown if inverted else shown).astype(np.uint16)


def _fractions(stored: Values, modality: Rescale | Lut, voi: Window | Lut | None) -> Values:
    """Return the fraction of the display range, 0 to 1, of each stored value."""
    values = modality(stored) if isinstance(modality, Lut) else stored * modality.slope + modality.intercept
    if isinstance(voi, Lut):
        return voi(values) / voi.top
    if voi is not None:
        return voi(values)
    bottom, top = (0.0, float(modality.top)) if isinstance(modality, Lut) else (values.min(), values.max())
    if bottom == top:
        raise ImageError("every stored value has the same modality value; correct RescaleSlope, which is 0")
    return (values - bottom) / (top - bottom)
