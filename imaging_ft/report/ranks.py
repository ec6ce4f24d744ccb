"""AUROC and average precision, with what each image moves them by, from counts at each level of the score."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from imaging_ft.bundle import Said
from imaging_ft.report.intervals import Spread, bounded
from imaging_ft.report.result import Estimate
from imaging_ft.report.scored import Doubles, Units, effective
from imaging_ft.types import Floats, Ints

EXACT_UP_TO = 1_000_000
"""Scores are ranked exactly up to so many rows, and beyond it on `COARSE` levels."""
SHIFT = 12
MOST_ERROR = 1e-4
"""Coarse levels that could move an AUROC by more are given up for exact ones."""
HALF = int(np.float32(0.5).view(np.uint32)) >> SHIFT
COARSE = 2 * HALF + 1
"""Levels of a probability p beyond EXACT_UP_TO: each spans at most 1/2048 of the smaller of p and 1 - p."""


@dataclass(frozen=True)
class Levels:
    """The scores of rows as ranks."""

    of: Ints
    """[n]: each row's level in [0, count), rising with its score; equal scores share a level."""
    count: int


def levels(scores: Floats) -> Levels:
    """Return the levels of scores [n]: one for each value."""
    values, of = np.unique(scores, return_inverse=True)
    return Levels(of.astype(np.int64, copy=False), len(values))


def coarse(scores: Floats) -> Ints:
    """Return the level of probabilities [n] in [0, COARSE), from the exponent and the first bits of p or 1 - p.

    Levels are as fine near 1 as near 0, where the scores of a sure model crowd.
    """
    p = np.clip(scores, 0, 1, dtype=np.float32)
    upper = p > 0.5
    np.subtract(1, p, out=p, where=upper)  # exact: both are multiples of 2⁻²⁴ (Sterbenz)
    of = (p.view(np.uint32) >> SHIFT).astype(np.int64)
    np.subtract(COARSE - 1, of, out=of, where=upper)
    return of


@dataclass(frozen=True)
class Ranking:
    """How scores rank the images that show a class (positives) among the others (negatives); both are there."""

    levels: Levels
    shown: Said
    """[n]: whether an image is a positive."""
    units: Units

    @classmethod
    def of(cls, scores: Floats, shown: Said, units: Units, *, exact_up_to: int = EXACT_UP_TO) -> "Ranking":
        """Return the ranking by probabilities [n], exact or such that the AUROC is off by at most MOST_ERROR."""
        if len(scores) > exact_up_to:
            found = cls(Levels(coarse(scores), COARSE), shown, units)
            if found.error <= MOST_ERROR:
                return found
        return cls(levels(scores), shown, units)

    @cached_property
    def positives(self) -> Doubles:
        """How many positives are at each level [levels]."""
        return np.bincount(np.compress(self.shown, self.levels.of), minlength=self.levels.count).astype(np.float64)

    @cached_property
    def negatives(self) -> Doubles:
        """How many negatives are at each level [levels]."""
        return np.bincount(self.levels.of, minlength=self.levels.count) - self.positives

    @cached_property
    def sizes(self) -> Doubles:
        """How many positives each unit has [units]."""
        return self.units.counts(self.shown)

    @property
    def error(self) -> float:
        """The most that ties can have moved the AUROC: half the pairs of one level, over all pairs."""
        return float(self.positives @ self.negatives / 2 / self.positives.sum() / self.negatives.sum())

    def auroc(self) -> Estimate:
        """Return the area under the ROC curve; ties count a half.

        Independent images: the variance of DeLong et al. 1988, from midranks in O(n log n) (Sun & Xu 2014). Groups: the
        structural components are summed by group (Obuchowski 1997), each sum freed of its own leverage; degrees of
        freedom by Satterthwaite from the groups with and without the class. The interval is on the logit scale.
        """
        n_positive, n_negative = float(self.positives.sum()), float(self.negatives.sum())
        of_positive = (np.cumsum(self.negatives) - self.negatives / 2) / n_negative
        of_negative = 1 - (np.cumsum(self.positives) - self.positives / 2) / n_positive
        area = float(self.positives @ of_positive) / n_positive
        if self.units.codes is None:
            variance = sum(
                _component(weights, component - area, area=area)
                for weights, component in ((self.positives, of_positive), (self.negatives, of_negative))
            )
            return bounded(area, Spread(variance, min(n_positive, n_negative)), method="delong")
        moves = np.zeros(self.units.count)
        parts: list[float] = []
        carriers: list[float] = []
        for chosen, component, of_units, count in (
            (self.shown, of_positive, self.sizes, n_positive),
            (~self.shown, of_negative, self.units.sizes - self.sizes, n_negative),
        ):
            leverage = of_units / count
            sums = self.units.sums_of((component - area)[np.compress(chosen, self.levels.of)], chosen) / count
            moves += sums / np.sqrt(np.where(leverage < 1, 1 - leverage, 1))
            parts.append(float(sums @ sums))
            carriers.append(effective(of_units))
        few = min(carriers)
        degrees = sum(part**2 / max(many - 1, 1e-9) for part, many in zip(parts, carriers, strict=True))
        df = sum(parts) ** 2 / degrees if degrees > 0 and few > 1 else few - 1
        squares = np.square(moves)
        variance = float(squares.sum())
        carried = variance**2 / float(squares @ squares) if variance > 0 else 0.0
        return bounded(area, Spread(variance, few, df, carried), method="delong_by_group")

    def average_precision(self) -> Estimate:
        """Return the average precision: the step-wise area under the precision–recall curve.

        The precision P at each positive's score, averaged over the positives. An image that is counted a little more
        moves it by (y (P - AP) + y A - B) / positives, where P is the precision at its score, y whether it is a
        positive, and A and B sum 1/N and P/N over the positives of its score or below, N being the images of a score
        or above.
        """
        n_positive = float(self.positives.sum())
        above = np.maximum(np.cumsum((self.positives + self.negatives)[::-1])[::-1], 1)
        precision = np.cumsum(self.positives[::-1])[::-1] / above
        value = float(self.positives @ precision) / n_positive
        gain = np.cumsum(self.positives / above)
        loss = np.cumsum(self.positives * precision / above)
        of_positive, of_negative = (precision - value + gain - loss) / n_positive, -loss / n_positive
        count = self.units.count
        if self.units.codes is None:
            squares = float(self.positives @ np.square(of_positive) + self.negatives @ np.square(of_negative))
            return bounded(value, Spread(squares * count / (count - 1), n_positive), method="jackknife")
        moves = of_negative[self.levels.of]
        places = np.flatnonzero(self.shown)
        moves[places] = of_positive[self.levels.of[places]]
        spread = Spread.of(self.units.sums(moves), units=effective(self.sizes), df=self.units.weight - 1)
        return bounded(value, spread, method="jackknife_by_group")


def _component(weights: Doubles, off: Doubles, *, area: float) -> float:
    """Return the variance of the mean of DeLong's components, `weights` of which lie `off` from it [levels].

    Of one image it isn't known: the widest of anything in [0, 1] with this mean is taken.
    """
    count = float(weights.sum())
    return float(weights @ np.square(off)) / (count - 1) / count if count > 1 else area * (1 - area)
