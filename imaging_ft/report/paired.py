"""Two models on the same images, one model on two sets of images, and p-values of many comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, stdtr

from imaging_ft.bundle import Said
from imaging_ft.report.intervals import correlation, difference_of, mean_of, paired_share, proportion
from imaging_ft.report.metrics import balanced, balanced_parts, shares
from imaging_ft.report.result import Estimate, Paired
from imaging_ft.report.scored import Doubles, Scored, Units
from imaging_ft.types import Task


def paired(this: Scored, other: Scored, *, task: Task) -> Paired:
    """Return this model less the other on the same images, in the same order; there must be one image at least.

    `p` is of no difference in accuracy: McNemar's exact test, and where units hold several images the score test on
    the units' differences with Student's t, but never below the exact one. `p_holm` is `p`, still to be adjusted.
    """
    units = this.units
    better, worse = this.right & ~other.right, other.right & ~this.right
    only_this, only_other = int(np.count_nonzero(better)), int(np.count_nonzero(worse))
    difference, _, z = paired_share(units.counts(better), units.counts(worse), units.sizes)
    p = mcnemar(only_this, only_other)
    if units.codes is not None:
        df = units.weight - 1
        p = max(p, 2 * float(stdtr(df, -abs(z)))) if df > 0 else 1.0
    return Paired(
        accuracy=difference,
        balanced_accuracy=_balanced(this, other, task=task),
        only_this=only_this,
        only_other=only_other,
        p=p,
        p_holm=p,
    )


def difference(one: Scored, two: Scored, *, task: Task, same_images: bool) -> dict[str, Estimate]:
    """Return one less two for `accuracy` and `balanced_accuracy`, as far as both define it.

    With `same_images`, row i is the same image in both, in two settings or of two models. Otherwise no image is in
    both, but groups may be. Balanced accuracies over different classes are not compared.
    """
    if not len(one.truth) or not len(two.truth):
        return {}
    if same_images:
        found = paired(one, two, task=task)
        both = {"accuracy": found.accuracy, "balanced_accuracy": found.balanced_accuracy}
        return {name: estimate for name, estimate in both.items() if estimate is not None}
    apart = Units.of(np.concatenate([one.groups, two.groups]))
    if apart.codes is None:
        sides = [_Side.of(rows, rows.units, task) for rows in (one, two)]
    else:
        codes = np.split(apart.codes, [len(one.truth)])
        sides = [_Side.of(rows, Units(of, apart.count), task) for rows, of in zip((one, two), codes, strict=True)]
    mine, other = sides
    return {
        name: difference_of(estimate, other.estimates[name], correlation=_correlated(mine.moves, other.moves, name))
        for name, estimate in mine.estimates.items()
        if name in other.estimates and mine.classes[name] == other.classes[name]
    }


@dataclass(frozen=True)
class _Side:
    """One of two sets of images: its metrics, how each unit moves them, and what classes they speak of."""

    estimates: dict[str, Estimate]
    moves: dict[str, Doubles]
    classes: dict[str, list[str]]

    @classmethod
    def of(cls, rows: Scored, units: Units, task: Task) -> "_Side":
        estimate, moves = proportion(units.counts(rows.right), units.sizes)
        by_class = shares(rows, _names(rows), task=task, units=units)
        parts = balanced_parts(by_class, task=task)
        of_parts = [part.moves for part in parts if part.moves is not None]
        return cls(
            {"accuracy": estimate, **balanced(by_class, task=task)},
            {"accuracy": moves, **({"balanced_accuracy": np.mean(of_parts, axis=0)} if of_parts else {})},
            {"accuracy": [], "balanced_accuracy": [part.name for part in parts]},
        )


def _correlated(mine: dict[str, Doubles], other: dict[str, Doubles], name: str) -> float:
    """Return how a metric of two sets varies together, by the units they share; 0 where they share none."""
    one, two = mine.get(name), other.get(name)
    if one is None or two is None or len(one) != len(two):
        return 0.0
    scale = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / scale if scale > 0 else 0.0


def _names(rows: Scored) -> list[str]:
    return [str(index) for index in range(rows.truth.shape[1])]


def _balanced(this: Scored, other: Scored, *, task: Task) -> Estimate | None:
    """Return the difference in balanced accuracy on the same images; None where it isn't defined."""
    units, several = this.units, task is Task.MULTILABEL
    parts: list[Estimate] = []
    moves: list[Doubles] = []
    present: list[Said] = []
    for truth, mine, theirs in zip(this.truth.T, this.said.T, other.said.T, strict=True):
        if several and (truth.all() or not truth.any()):
            continue
        for side, wanted in ((truth, True), (~truth, False))[: 2 if several else 1]:
            if not side.any():
                continue
            better, worse = side & (mine == wanted) & (theirs != wanted), side & (mine != wanted) & (theirs == wanted)
            sizes = units.counts(side)
            estimate, moved, _ = paired_share(units.counts(better), units.counts(worse), sizes)
            parts.append(estimate)
            moves.append(moved)
            present.append(sizes > 0)
    if len(parts) < 2:
        return None
    return mean_of(parts, correlation=correlation(moves, present), bottom=-1.0)


def mcnemar(only_one: int, only_other: int) -> float:
    """Return McNemar's exact two-sided p: of so uneven a split of the images that just one of two models has right."""
    n = only_one + only_other
    return min(1.0, 2 * float(bdtr(min(only_one, only_other), n, 0.5))) if n else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Return the p-values adjusted so that any false rejection among them is bounded (Holm 1979)."""
    found = np.asarray(p, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    adjusted = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    return _in_place(np.minimum(adjusted, 1), order)


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Return the p-values adjusted so that the share of false ones among the rejected is bounded (Benjamini & Hochberg
    1995).
    """
    found = np.asarray(p, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    scaled = found[order] * len(found) / np.arange(1, len(found) + 1)
    return _in_place(np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1), order)


def _in_place(adjusted: Doubles, order: npt.NDArray[np.intp]) -> list[float]:
    """Return values that stand in the order of `order` where they came from."""
    found = np.empty(len(order))
    found[order] = adjusted
    return [float(value) for value in found]
