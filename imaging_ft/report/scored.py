"""What was said of images and what they show: the rows that every metric is computed from, and their groups."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from imaging_ft.bundle import Said
from imaging_ft.types import Floats, Ints, Task

Doubles = npt.NDArray[np.float64]

DENSE_UP_TO = 4
"""Codes below this many times the rows are numbered through a table; above it by sorting."""


@dataclass(frozen=True)
class Scored:
    """Rows: images in one setting."""

    truth: Said
    """[n, classes]: what each image shows."""
    probabilities: Floats
    """[n, classes], float32 in [0, 1]."""
    said: Said
    """[n, classes]: what the model says, by the largest probability or, in a multi-label task, by thresholds."""
    groups: Ints
    """[n] codes from 0, with gaps or without; images are independent where no code occurs twice."""
    rejected: Said | None = None
    """[n]: what the model's bounds reject; None where it has none."""

    def take(self, positions: Ints | slice) -> "Scored":
        """Return the rows at `positions`, where a boolean [n] holds, or of a slice (without copying)."""
        rejected = self.rejected[positions] if self.rejected is not None else None
        return Scored(
            self.truth[positions],
            self.probabilities[positions],
            self.said[positions],
            self.groups[positions],
            rejected,
        )

    @cached_property
    def right(self) -> Said:
        """Whether every class is right [n]."""
        return all_classes(self.truth, self.said)

    @cached_property
    def units(self) -> "Units":
        """The independent units that the rows come from."""
        return Units.of(self.groups)

    def confidence(self, task: Task) -> npt.NDArray[np.float32]:
        """Return how sure the model is of what it says [n]: the probability of the class that is said.

        In a multi-label task it is the product, over the classes, of the probability that each is as it is said.
        """
        several = task is Task.MULTILABEL
        sure = np.full(len(self.said), 1 if several else 0, np.float32)
        for column in range(self.said.shape[1]):
            here, chosen = self.probabilities[:, column], self.said[:, column]
            if several:
                sure *= np.where(chosen, here, 1 - here)
            else:
                np.copyto(sure, here, where=chosen)
        return sure


@dataclass(frozen=True)
class Units:
    """The independent units among some rows: patients, series, cameras; images without one are units of their own."""

    codes: Ints | None
    """[n]: the unit of each row, in [0, count); None where every row is a unit of its own."""
    count: int

    @classmethod
    def of(cls, groups: Ints) -> "Units":
        """Return the units that codes from 0, with gaps or without, stand for."""
        n = len(groups)
        if n == 0:
            return cls(None, 0)
        top = int(groups.max()) + 1
        if top <= DENSE_UP_TO * n:
            there = np.zeros(top, dtype=np.bool_)
            there[groups] = True
            count = int(there.sum())
            codes = groups if count == top else (np.cumsum(there) - 1)[groups]
        else:
            values, codes = np.unique(groups, return_inverse=True)
            count = len(values)
        return cls(None, n) if count == n else cls(codes.astype(np.int64, copy=False), count)

    @cached_property
    def sizes(self) -> Doubles:
        """How many rows each unit has [count]."""
        if self.codes is None:
            return np.ones(self.count)
        return np.bincount(self.codes, minlength=self.count).astype(np.float64)

    @cached_property
    def weight(self) -> float:
        """How many units of equal size would weigh as these do."""
        return float(self.count) if self.codes is None else effective(self.sizes)

    def sums(self, moves: Doubles) -> Doubles:
        """Return the sum of `moves` [n] within each unit [count]."""
        if self.codes is None:
            return moves
        return np.bincount(self.codes, moves, minlength=self.count).astype(np.float64, copy=False)

    def counts(self, chosen: Said) -> Doubles:
        """Return how many of each unit's rows are `chosen` [n], as [count]."""
        if self.codes is None:
            return chosen.astype(np.float64)
        return np.bincount(np.compress(chosen, self.codes), minlength=self.count).astype(np.float64)

    def sums_of(self, moves: Doubles, chosen: Said) -> Doubles:
        """Return the sum within each unit [count] of the moves of its `chosen` rows; `moves` holds those alone."""
        if self.codes is None:
            spread = np.zeros(self.count)
            spread[chosen] = moves
            return spread
        within = np.compress(chosen, self.codes)  # several times as fast as indexing by a boolean
        return np.bincount(within, moves, minlength=self.count).astype(np.float64, copy=False)


def effective(sizes: Floats) -> float:
    """Return the number of equal units that would weigh as these of uneven sizes do (Kish 1965): (Σm)² / Σm²."""
    squares = float(np.square(sizes).sum())
    return float(sizes.sum()) ** 2 / squares if squares else 0.0


def all_classes(truth: Said, said: Said) -> Said:
    """Return whether every class is right [n]."""
    right = np.ones(len(truth), dtype=np.bool_)
    for column in range(truth.shape[1]):
        right &= truth[:, column] == said[:, column]
    return right
