"""The learning-rate range test (Smith 2017): a diagnostic that shows at which rates training works."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from imaging_ft.training.run import replacing
from imaging_ft.types import Floats

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 60
"""Six decades of rates, ten steps to each."""
_SMOOTH = 2.5
"""Standard deviation, in steps, of the curve's smoothing: a quarter of a decade."""
_RECENT = 0.8
"""How much of the running mean is kept at each step; it decides alone whether the loss has run away."""
_AWAY = 4.0
"""Past so many times the lowest running loss, the rest of the test is the same story."""
_FIRST = 10
"""Steps before the loss can count as run away."""


@dataclass(frozen=True)
class RateSearch:
    """What a range test found."""

    rates: Floats
    """[n], rising by one factor."""
    losses: Floats
    """[n], of each step, before the weights took it in."""
    smoothed: Floats
    """[n], without delay: the mean over the steps around each one."""
    suggestion: float | None
    """The rate at which the loss falls fastest; None where it falls by no more than its noise."""
    diverged: bool
    """Whether the loss ran away or was no longer a number, which ended the test."""


def find_rate(
    step: Callable[[float], float], *, lowest: float = LOWEST, highest: float = HIGHEST, steps: int = STEPS
) -> RateSearch:
    """Return the losses of a short training whose rate rises exponentially from `lowest` to `highest`.

    `step(rate)` makes one training step at a rate and returns its loss. It changes the model: whoever calls this keeps
    the weights from before. The test ends early where the loss runs away.
    """
    rates: list[float] = []
    losses: list[float] = []
    running, best, diverged = 0.0, math.inf, False
    for number, rate in enumerate(np.geomspace(lowest, highest, steps).tolist()):
        loss = step(rate)
        if not math.isfinite(loss):
            diverged = True
            break
        rates.append(rate)
        losses.append(loss)
        running = _RECENT * running + (1 - _RECENT) * loss
        mean = running / (1 - _RECENT ** (number + 1))
        best = min(best, mean)
        if number >= _FIRST and mean > _AWAY * best:
            diverged = True
            break
    found, values = np.array(rates), np.array(losses)
    smoothed = _smoothed(values) if losses else values
    return RateSearch(found, values, smoothed, _suggestion(found, values, smoothed), diverged)


def _smoothed(losses: Floats) -> Floats:
    """Return the mean over the steps around each one; losses that run away don't reach back over those before them."""
    ceiling = 2 * float(np.median(losses[:_FIRST]))
    return gaussian_filter1d(np.minimum(losses, ceiling), _SMOOTH, mode="nearest")


def _suggestion(rates: Floats, losses: Floats, smoothed: Floats) -> float | None:
    """Return the rate where the smoothed loss falls steepest by log rate, on the way to its lowest point."""
    lowest = int(smoothed.argmin()) if len(smoothed) else 0
    if lowest < 2:
        return None
    noise = float(np.std(losses[: lowest + 1] - smoothed[: lowest + 1]))
    if smoothed[: lowest + 1].max() - smoothed[lowest] <= max(2 * noise, 1e-3 * abs(float(smoothed[0]))):
        return None
    slopes = np.gradient(smoothed[: lowest + 1], np.log(rates[: lowest + 1]))
    return float(rates[int(slopes.argmin())])


def write_rate_plot(search: RateSearch, path: Path) -> None:
    """Write a PNG of loss by rate, with the suggestion marked; raises RunError where it can't be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(search.rates, search.losses, ".", color="0.7", label="each step")
    axes.plot(search.rates, search.smoothed, label="smoothed")
    if search.suggestion is not None:
        axes.axvline(search.suggestion, color="C1", linestyle="--", label=f"falls fastest: {search.suggestion:.1e}")
    if len(search.smoothed):  # losses that ran away would flatten all that matters
        axes.set_ylim(0, 1.1 * search.smoothed.max())
    axes.set(xscale="log", xlabel="learning rate of the head", ylabel="training loss", title="Learning-rate range test")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
