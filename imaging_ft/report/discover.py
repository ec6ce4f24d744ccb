"""Weak slices: searched for over all columns and pairs of them on one half of the groups, tested on the other half."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from imaging_ft.report.cuts import Codes
from imaging_ft.report.intervals import proportion
from imaging_ft.report.paired import benjamini_hochberg
from imaging_ft.report.result import Discovered, Estimate
from imaging_ft.report.scored import Doubles, Units, effective
from imaging_ft.types import Ints

LEVEL = 0.05
"""A slice is confirmed where its adjusted p is below."""
KEPT = 10
MIN_IMAGES = 20
MIN_GROUPS = 5
_EVIDENCE = 2.0
"""So many standard errors a slice must lie below the rest, and a pair below each of its columns' slices."""
_MARGIN = 0.03
"""… and a pair so much lower in accuracy, however many images there are."""
_LOOKED_AT = 60
"""So many of the weakest by images are looked at by groups."""

_Bools = npt.NDArray[np.bool_]
_Place = tuple[tuple[int, int], ...]
"""A slice: one or two (column, code)."""


def discover(
    codes: Mapping[str, tuple[Codes, Sequence[str]]], right: _Bools, groups: Ints, *, seed: int = 0
) -> list[Discovered]:
    """Return at most ten slices that one half of the groups shows as weak, the most surely confirmed first.

    `codes` gives for each column the code of each image [n] (-1: none) and the values that the codes stand for;
    `right` [n] says which images the model has right, and `groups` [n], codes from 0, which of them belong together.
    The groups are dealt into two halves by `seed`. On the first, every value of every column and every pair of values
    of two columns is compared with the rest of the images; what is weaker by two standard errors is kept, weakest
    first, and of pairs only those that are weaker than both of their columns' slices (by two standard errors of the
    pair and by .03). A slice has 20 images and 5 groups in each half.

    On the second half each is tested, one-sided, against the rest: by Fisher's exact test where every image is a
    group of its own, else by the difference of the mean accuracies, with each group's moves summed, and Student's t
    with Satterthwaite's degrees of freedom; the variance is taken to be that of independent images at least. The p of
    all that were kept are adjusted by Benjamini & Hochberg (1995). The search costs nothing here, since it never saw
    these images; but what it looked at was not planned, so that a finding is a question and no proof.
    """
    names, values = list(codes), [list(of_column) for _, of_column in codes.values()]
    dealt = _dealt(groups, seed)
    search, confirm = (
        _Half.of([column for column, _ in codes.values()], right, groups, part) for part in (dealt, ~dealt)
    )
    kept = _search(search, confirm, [len(of_column) for of_column in values])
    tests = [confirm.compared(place) for place in kept]
    adjusted = benjamini_hochberg([test.p for test in tests])
    found: list[Discovered] = []
    for place, test, p in zip(kept, tests, adjusted, strict=True):
        seen = search.compared(place)
        found.append(
            Discovered(
                conditions={names[column]: values[column][code] for column, code in place},
                found=seen.accuracy,
                found_n=seen.n,
                accuracy=test.accuracy,
                n=test.n,
                rest=test.rest,
                p=p,
                confirmed=p < LEVEL,
            )
        )
    return sorted(found, key=lambda one: (one.p, one.accuracy.value))


def _dealt(groups: Ints, seed: int) -> _Bools:
    """Return which images are searched [n]: those of half of the groups."""
    units = Units.of(groups)
    chosen = np.random.default_rng(seed).permutation(np.arange(units.count) < units.count / 2)
    return chosen if units.codes is None else chosen[units.codes]


@dataclass(frozen=True)
class _Test:
    """A slice beside the rest of one half."""

    n: int
    groups: int
    accuracy: Estimate
    rest: float
    """Accuracy of the others."""
    below: float
    """How many standard errors the slice lies below the rest."""
    p: float
    """One-sided, of the slice being as good."""


@dataclass(frozen=True)
class _Half:
    """The images of half of the groups."""

    columns: list[Codes]
    right: _Bools
    units: Units
    sizes: Doubles
    """How many images each unit has, and how many of them are right: both [units]."""
    hits: Doubles

    @classmethod
    def of(cls, columns: Sequence[Codes], right: _Bools, groups: Ints, part: _Bools) -> "_Half":
        right, units = right[part], Units.of(groups[part])
        sizes = units.counts(np.ones_like(right))
        return cls([column[part] for column in columns], right, units, sizes, units.counts(right))

    def table(self, columns: Sequence[int], shape: Sequence[int]) -> tuple[Ints, Ints]:
        """Return how many images have each value of one column, or pair of values of two, and how many are right."""
        place = np.zeros(len(self.right), np.int64)
        for column, size in zip(columns, shape, strict=True):
            place *= size + 1
            place += self.columns[column]
            place += 1  # images without a value come first, and are left out below
        counts = np.bincount(2 * place + self.right, minlength=2 * int(np.prod([size + 1 for size in shape])))
        counts = counts.reshape(*(size + 1 for size in shape), 2)[(slice(1, None),) * len(shape)]
        return counts.sum(axis=-1), counts[..., 1]

    def inside(self, place: _Place) -> _Bools:
        (column, code), *others = place
        inside = self.columns[column] == code
        for column, code in others:
            inside &= self.columns[column] == code
        return inside

    def groups(self, place: _Place) -> int:
        """Return how many units have an image in a slice."""
        return int(np.count_nonzero(self.units.counts(self.inside(place))))

    def compared(self, place: _Place) -> _Test:
        """Return a slice beside the rest; neither may be empty."""
        inside = self.inside(place)
        sizes, hits = self.units.counts(inside), self.units.counts(inside & self.right)
        n, right = int(sizes.sum()), int(hits.sum())
        total, all_right = len(self.right), int(self.hits.sum())
        rest = (all_right - right) / (total - n)
        difference, share = right / n - rest, all_right / total
        variance = share * (1 - share) * (1 / n + 1 / (total - n))
        there = sizes > 0
        if self.units.codes is None:
            p = _fisher(right, n, all_right, total)
        else:
            of_slice, of_rest = _Side.of(hits, sizes), _Side.of(self.hits - hits, self.sizes - sizes)
            parts = np.array([of_slice.variance, of_rest.variance])
            # A group on both sides moves both.
            variance = max(variance, float(parts.sum() - 2 * of_slice.moves @ of_rest.moves))
            freedom = np.array([of_slice.df, of_rest.df])
            df = float(parts.sum() ** 2 / (parts**2 / freedom).sum()) if parts.sum() > 0 else float(freedom.min())
            p = float(stdtr(df, difference / np.sqrt(variance))) if variance > 0 else 1.0
        accuracy, _ = proportion(hits[there], sizes[there])
        below = -difference / np.sqrt(variance) if variance > 0 else 0.0
        return _Test(n, int(np.count_nonzero(there)), accuracy, rest, float(below), p)


def _fisher(right: int, n: int, all_right: int, total: int) -> float:
    """Return Fisher's exact one-sided p: of so few right among `n`, drawn from `total` of which `all_right` are."""
    from scipy.stats import hypergeom  # takes longer to import than all the rest of the report

    return float(hypergeom.cdf(right, total, all_right, n))


@dataclass(frozen=True)
class _Side:
    """How each unit moves an accuracy [units], the variance of it, and its degrees of freedom."""

    moves: Doubles
    variance: float
    df: float

    @classmethod
    def of(cls, hits: Doubles, sizes: Doubles) -> "_Side":
        n = sizes.sum()
        moves = (hits - hits.sum() / n * sizes) / n
        others = 1 - sizes / n
        # Each unit is freed of its own leverage (Bell & McCaffrey 2002).
        variance = float((np.square(moves) / np.where(others > 0, others, 1)).sum())
        return cls(moves, variance, max(effective(sizes) - 1, 1e-9))


def _search(search: _Half, confirm: _Half, sizes: Sequence[int]) -> list[_Place]:
    """Return the slices of the first half to be tested; the answers of the second are not looked at."""
    if not len(search.right) or not len(confirm.right):
        return []
    weak: list[tuple[float, _Place]] = []
    accuracies: list[Doubles] = []
    for column, size in enumerate(sizes):
        below, accuracy, _ = _weakness(search, confirm, (column,), (size,))
        accuracies.append(accuracy)
        weak += [(below[code], ((column, code),)) for code in np.flatnonzero(below >= _EVIDENCE).tolist()]
    for one, two in combinations(range(len(sizes)), 2):
        below, accuracy, n = _weakness(search, confirm, (one, two), (sizes[one], sizes[two]))
        for parent in (accuracies[one][:, np.newaxis], accuracies[two][np.newaxis, :]):
            error = np.sqrt(parent * (1 - parent) / np.maximum(n, 1))
            below[~(accuracy <= parent - np.maximum(_MARGIN, _EVIDENCE * error))] = 0
        places = np.argwhere(below >= _EVIDENCE).tolist()
        weak += [(below[first, second], ((one, first), (two, second))) for first, second in places]
    weak.sort(key=lambda each: (-each[0], each[1]))
    tests = [(search.compared(place), place) for _, place in weak[:_LOOKED_AT]]
    tests = [(test, place) for test, place in tests if test.below >= _EVIDENCE and test.groups >= MIN_GROUPS]
    tests.sort(key=lambda each: (-each[0].below, each[1]))
    kept: list[_Place] = []
    for _, place in tests:
        if len(kept) < KEPT and confirm.groups(place) >= MIN_GROUPS:
            kept.append(place)
    return kept


def _weakness(
    search: _Half, confirm: _Half, columns: Sequence[int], shape: Sequence[int]
) -> tuple[Doubles, Doubles, Ints]:
    """Return for each slice [*shape] by how many standard errors it lies below the rest, its accuracy and its images.

    It is 0 for one with too few images, or too few others, in either half; images are counted as independent.
    """
    n, right = search.table(columns, shape)
    there, _ = confirm.table(columns, shape)
    total, all_right = len(search.right), int(np.count_nonzero(search.right))
    share = all_right / total
    enough = (np.minimum(n, total - n) >= MIN_IMAGES) & (np.minimum(there, len(confirm.right) - there) >= MIN_IMAGES)
    many, few = np.maximum(n, 1), np.maximum(total - n, 1)
    accuracy = right / many
    error = np.sqrt(share * (1 - share) * (1 / many + 1 / few))
    below = np.where(enough, (all_right - right) / few - accuracy, 0) / (error if share * (1 - share) > 0 else np.inf)
    return below, accuracy, n
