"""The scales of the page's drawings: where they begin and end, their ticks, and places in pixels."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """The horizontal scale that the small interval drawings of a table share, in pixels."""

    low: float
    """The value at the left end."""
    high: float = 1.0
    """The value at the right end, above `low`."""
    mark: float | None = None
    """Where a dashed line stands: the clean value, or no difference."""
    width: int = 132
    margin: int = 6

    def x(self, value: float) -> float:
        """Return where a value lies, in pixels from the left; values beyond an end lie at that end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.margin + share * (self.width - 2 * self.margin), 1)


def scale_floor(values: Iterable[float]) -> float:
    """Return the tenth at or below the smallest value, at most 0.9: where the scales of shares begin."""
    smallest = min(values, default=0.9)
    return min(0.9, max(0.0, math.floor(smallest * 10 + 1e-9) / 10))


def error_scale(values: Iterable[float], *, mark: float | None = None) -> Scale:
    """Return a scale from 0 to at or above the largest value: for errors, where smaller is better."""
    return Scale(0.0, _round_up(max(values, default=0.0)), mark)


def difference_scale(values: Iterable[float]) -> Scale:
    """Return a scale as far to the left of no difference as to its right, which takes every value in."""
    reach = _round_up(max((abs(value) for value in values), default=0.0))
    return Scale(-reach, reach, 0.0)


def gap_scale(values: Iterable[float]) -> Scale:
    """Return a scale that begins at 0, or below where an interval does, and takes every value in."""
    found = [*values]
    lowest, reach = min(found, default=0.0), _round_up(max(found, default=0.0))
    return Scale(-_round_up(-lowest) if lowest < 0 else 0.0, reach, 0.0)


def share_ticks(low: float) -> list[tuple[float, str]]:
    """Return the ticks of a scale of shares from `low` to 1, from the top: at most six."""
    step = 0.2 if low < 0.5 else 0.1 if low < 0.8 else 0.05
    ticks = [1.0 - step * place for place in range(int((1.0 - low) / step + 1e-9) + 1)]
    return [(tick, f"{tick:.2f}" if step < 0.1 else f"{tick:.1f}") for tick in ticks]


def ticks(low: float, high: float, *, most: int = 6) -> list[tuple[float, str]]:
    """Return at most `most` round ticks (steps of 1, 2, 2.5 or 5) within [low, high]."""
    if high <= low:
        return [(low, f"{low:g}".replace("-", "\u2212"))]
    raw = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * one for one in _STEPS if power * one >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    found = [round(place * step, 12) for place in range(first, last + 1)]
    return [(tick, f"{tick:g}".replace("-", "\u2212")) for tick in found]


def _round_up(value: float) -> float:
    """Return the next of 0.01, 0.02, 0.05, 0.1, 0.2, 0.3 … at or above a value, so that no scale is empty."""
    for step in (0.01, 0.02, 0.05):
        if value <= step + 1e-9:
            return step
    return math.ceil(value * 10 - 1e-9) / 10
