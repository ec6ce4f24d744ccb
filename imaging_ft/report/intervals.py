"""95% intervals of shares, of means of them, of other bounded metrics and of differences; `docs/statistics.md`.

A metric moves by a little with every image (its infinitesimal jackknife, Efron 1982). The moves of images from one
patient, series or camera are summed before they are squared, so that groups and not images are what is counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtri, stdtrit

from imaging_ft.bundle import Said
from imaging_ft.report.result import Estimate, Method
from imaging_ft.report.scored import Doubles, effective

CONFIDENCE = 0.95
HANGING = 1 / 3
"""How many groups that hang together entirely are added to those that a share's design effect is measured on."""
BLOCK = 1 << 18
"""Units that are looked at together where parts are compared."""
WIDEST = 0.1
"""The same, for the variance of the other metrics: how many groups that vary as widely as can be are added."""


def quantile(df: float | None = None) -> float:
    """Return the 97.5% quantile of Student's t, or of the normal distribution without `df`; infinite at df 0."""
    if df is None:
        return float(ndtri((1 + CONFIDENCE) / 2))
    return float(stdtrit(df, (1 + CONFIDENCE) / 2)) if df > 0 else float("inf")


def score(share: float, n: float, q: float) -> tuple[float, float]:
    """Return Wilson's score interval (Wilson 1927) of a share among `n`, which may be fractional, at quantile `q`."""
    if not np.isfinite(q):
        return 0.0, 1.0
    centre = (share + q * q / (2 * n)) / (1 + q * q / n)
    half = q / (1 + q * q / n) * float(np.sqrt(share * (1 - share) / n + q * q / (4 * n * n)))
    return (0.0 if share <= 0 else max(0.0, centre - half)), (1.0 if share >= 1 else min(1.0, centre + half))


def wilson(right: int, n: int) -> Estimate:
    """Return a proportion with its 95% Wilson score interval (Wilson 1927); `n` must be at least 1."""
    low, high = score(right / n, n, quantile())
    return Estimate(value=right / n, low=low, high=high, method="wilson")


def proportion(hits: Doubles, sizes: Doubles) -> tuple[Estimate, Doubles]:
    """Return the share of hits, and how each unit moves it [units]; `hits` of a unit's `sizes` images, both [units].

    With one image a unit this is Wilson's interval. Otherwise it is Wilson's on the effective number of images and with
    Student's t (Korn & Graubard 1998; Franco, Little, Louis & Slud 2019).
    """
    n = float(sizes.sum())
    share = float(hits.sum()) / n
    moves = (hits - share * sizes) / n
    alone = effective(sizes) >= n
    if alone:
        low, high = score(share, n, quantile())
    else:
        fewer = int(min(np.count_nonzero(hits), np.count_nonzero(hits < sizes)))
        low, high = score(share, *_design(moves, sizes, share * (1 - share), fewer))
    return Estimate(value=share, low=low, high=high, method="wilson" if alone else "wilson_by_group"), moves


def paired_share(better: Doubles, worse: Doubles, sizes: Doubles) -> tuple[Estimate, Doubles, float]:
    """Return the difference of two paired shares, how each unit moves it [units], and its t (or z) of no difference.

    `better` and `worse` count the images of each unit that only the first, and only the second, has right. It is
    Tango's score interval (Tango 1998), which is Wilson's for pairs; where units hold several images, on the effective
    number of images and with Student's t, as `proportion` does. The last is for `effective(sizes) - 1` degrees.
    """
    n, b, c = float(sizes.sum()), float(better.sum()), float(worse.sum())
    value = (b - c) / n
    moves = (better - worse - value * sizes) / n
    alone = effective(sizes) >= n
    units, q = n, quantile()
    if not alone:
        units, q = _design(moves, sizes, (b + c) / n - value * value, int(np.count_nonzero(better + worse)))
    low, high = tango(b * units / n, c * units / n, units, q)
    z = (b - c) / np.sqrt(b + c) * np.sqrt(min(units, n) / n) if b + c else 0.0
    method: Method = "wilson" if alone else "wilson_by_group"
    return Estimate(value=value, low=low, high=high, method=method), moves, float(z)


def _design(moves: Doubles, sizes: Doubles, simple: float, fewer: int) -> tuple[float, float]:
    """Return the effective number of images and Student's quantile, for images that are not independent.

    `simple` is the variance of one image; `fewer` counts the units that the design effect is known from. Where they
    are few, units may hang together more than is seen: HANGING of a unit that does so entirely is added to them.
    """
    n, units = float(sizes.sum()), effective(sizes)
    worst = n / units
    variance = _variance(moves, sizes)
    design = variance * n / simple if simple > 1e-12 and variance > 0 else worst
    design = (fewer * design + HANGING * worst) / (fewer + HANGING)
    return n / design, quantile(units - 1)


def _variance(moves: Doubles, sizes: Doubles) -> float:
    """Return the variance of a share from its moves by unit, each freed of its own leverage (Bell & McCaffrey 2002)."""
    rest = 1 - sizes / sizes.sum()
    return float((np.square(moves) / np.where(rest > 0, rest, 1)).sum())


@dataclass(frozen=True)
class Spread:
    """How a metric varies from sample to sample."""

    variance: float
    units: float
    """How many independent units of equal weight it rests on."""
    df: float | None = None
    """Degrees of freedom of the variance; None where images are independent."""
    carried: float = float("inf")
    """How many units carry the variance: (Σm²)² / Σm⁴ of their moves."""

    @classmethod
    def of(cls, moves: Doubles, *, units: float, df: float | None) -> "Spread":
        """Return the spread from the moves of each unit [units]: U / (U - 1) of their sum of squares."""
        count = len(moves)
        total = float(moves @ moves)
        variance = total * count / max(count - 1, 1)
        if df is None:
            return cls(variance, units)
        squares = np.square(moves)
        return cls(variance, units, df, total**2 / float(squares @ squares) if total > 0 else 0.0)


def bounded(value: float, spread: Spread, *, top: float = 1.0, method: Method) -> Estimate:
    """Return a metric in [0, `top`] with its interval: on the logit scale, within the metric's bounds.

    Where nothing varies, or all is right or wrong, it is Wilson's interval on the units.
    """
    share, variance, q = value / top, spread.variance / top**2, quantile(spread.df)
    inside = 0 < share < 1
    if spread.df is not None and inside:
        widest = share * (1 - share) / max(spread.units, 1.0)
        variance = (spread.carried * variance + WIDEST * widest) / (spread.carried + WIDEST)
    if inside and variance > 0 and np.isfinite(q):
        centre, half = np.log(share / (1 - share)), q * np.sqrt(variance) / (share * (1 - share))
        low, high = (float(expit(limit)) for limit in (centre - half, centre + half))
    else:
        low, high = score(share, max(spread.units, 1.0), q)
    return Estimate(value=value, low=min(value, low * top), high=max(value, high * top), method=method)


def tango(b: float, c: float, n: float, q: float) -> tuple[float, float]:
    """Return Tango's score interval (Tango 1998) of (b - c) / n, of discordant pairs among n, at quantile `q`."""
    if not np.isfinite(q):
        return -1.0, 1.0

    def statistic(delta: float) -> float:
        first = (2 * n - b + c) * delta - b - c
        root = max(0.0, first * first + 8 * n * c * delta * (1 - delta))
        share = (np.sqrt(root) - first) / (4 * n)
        return (b - c - n * delta) - q * _sign(b - c - n * delta) * np.sqrt(
            max(0.0, n * (2 * share + delta * (1 - delta)))
        )

    value = (b - c) / n
    return _root(statistic, -1.0, value), _root(statistic, 1.0, value)


def _sign(number: float) -> float:
    return 1.0 if number >= 0 else -1.0


def _root(statistic: Callable[[float], float], end: float, value: float) -> float:
    """Return where the statistic is 0 between an end of the scale and the estimate; the end where it nowhere is."""
    near = value + (end - value) * 1e-12
    if near == end or statistic(near) * statistic(end) >= 0:
        return end
    return float(brentq(statistic, near, end, xtol=1e-13))  # pyright: ignore[reportArgumentType]


def correlation(moves: Sequence[Doubles], present: Sequence[Said]) -> Doubles:
    """Return how parts vary together [parts, parts], from how each unit moves each part [units].

    Of a part that nothing moves (all right, or all wrong) nothing is known: 1 is taken, the widest, with every part
    that it shares units with. `present` [units] says of each part whether it holds images of a unit.
    """
    products = _products(moves)
    spread = np.sqrt(np.diag(products))
    known = spread > 0
    scale = np.where(known, spread, 1)
    shared = np.zeros_like(products) if known.all() else (_products(present) > 0).astype(np.float64)
    return np.where(np.outer(known, known), products / np.outer(scale, scale), shared)


def _products(parts: Sequence[Doubles] | Sequence[Said]) -> Doubles:
    """Return the products of every two parts [parts, parts], summed over the units in blocks, to hold few copies."""
    found = np.zeros((len(parts), len(parts)))
    for start in range(0, len(parts[0]), BLOCK):
        block = np.stack([part[start : start + BLOCK] for part in parts]).astype(np.float64)
        found += block @ block.T
    return found


def mean_of(estimates: Sequence[Estimate], *, correlation: Doubles | None = None, bottom: float = 0.0) -> Estimate:
    """Return the mean of proportions, or of differences of them (`bottom` -1), with its 95% interval.

    The intervals are combined by MOVER (Zou & Donner 2008): the distance of the mean's limit from the mean is
    the root of the summed squares of the parts' distances, over their number. Parts that are measured on the same
    images or groups aren't independent: `correlation` [parts, parts] then weighs the products of their distances.
    """
    value = np.array([part.value for part in estimates])
    below = value - np.array([part.low for part in estimates])
    above = np.array([part.high for part in estimates]) - value
    mean, count = float(value.mean()), len(estimates)
    weights = np.eye(count) if correlation is None else correlation

    def distance(parts: Doubles) -> float:
        return float(np.sqrt(max(0.0, parts @ weights @ parts))) / count

    grouped = any(part.method.endswith("_by_group") for part in estimates)
    return Estimate(
        value=mean,
        low=max(bottom, mean - distance(below)),
        high=min(1.0, mean + distance(above)),
        method="mover_by_group" if grouped else "mover",
    )


def difference_of(one: Estimate, two: Estimate, *, correlation: float = 0.0) -> Estimate:
    """Return one less two with its interval by MOVER (Zou & Donner 2008; of two shares Newcombe 1998, method 10)."""
    value = one.value - two.value

    def distance(mine: float, other: float) -> float:
        return float(np.sqrt(max(0.0, mine * mine + other * other - 2 * correlation * mine * other)))

    grouped = any(part.method.endswith("_by_group") for part in (one, two))
    return Estimate(
        value=value,
        low=max(-1.0, value - distance(one.value - one.low, two.high - two.value)),
        high=min(1.0, value + distance(one.high - one.value, two.value - two.low)),
        method="mover_by_group" if grouped else "mover",
    )
