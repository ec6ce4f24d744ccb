"""Recorded conditions: every column of the manifest cuts the clean images into slices."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from imaging_ft.data import Sample
from imaging_ft.types import Ints

MAX_VALUES = 12
"""A text column with more different values is no condition, but a name."""
BINS = 4
_WHOLE_BELOW = 1e15
_FEW_NUMBERS = 6
"""A numeric column with at most so many different values is not cut into bins."""


@dataclass(frozen=True)
class Slice:
    """The samples that share a value, or a bin of values, of one column."""

    column: str
    value: str
    positions: Ints
    """Indices into the samples."""


def slices(samples: Sequence[Sample]) -> tuple[list[Slice], list[str]]:
    """Return the slices by every column, in the columns' order, and a note for each column that gives none.

    Numbers with many values are cut into four bins of about as many samples, whose edges are values that
    occur. A sample without a value, or with NaN among numbers, falls into the slice `(empty)`.
    """
    columns = list(dict.fromkeys(name for sample in samples for name in sample.columns))
    found: list[Slice] = []
    notes: list[str] = []
    for column in columns:
        cells = [sample.columns.get(column, "") for sample in samples]
        values = sorted({cell for cell in cells if cell})
        numbers = _numbers(cells)
        empty = np.array([not cell for cell in cells]) if numbers is None else np.isnan(numbers)
        if numbers is not None:
            known = np.unique(numbers[~empty])
            found += _binned(column, numbers) if len(known) > _FEW_NUMBERS else _each(column, cells, numbers, known)
        elif len(values) > MAX_VALUES:
            notes.append(f"column {column!r} has {len(values)} different values and is not reported as a condition")
            continue
        else:
            found += [_slice(column, value, np.array([cell == value for cell in cells])) for value in values]
        if empty.any():
            found.append(_slice(column, "(empty)", empty))
    return found, notes


def _numbers(cells: Sequence[str]) -> np.ndarray | None:
    """Return a column as numbers (NaN where empty), or None where a cell is no finite number."""
    try:
        numbers = np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return None
    return None if np.isinf(numbers).any() or np.isnan(numbers).all() else numbers


def _each(column: str, cells: Sequence[str], numbers: np.ndarray, known: np.ndarray) -> list[Slice]:
    """Return a slice for each number, called as the cells write it, however many ways (`1e3`, `1000`) they do."""
    found: list[Slice] = []
    for value in known.tolist():
        inside = numbers == value
        spellings = {cells[position] for position in np.flatnonzero(inside).tolist()}
        found.append(_slice(column, spellings.pop() if len(spellings) == 1 else _texts([value])[0], inside))
    return found


def _binned(column: str, numbers: np.ndarray) -> list[Slice]:
    known = numbers[~np.isnan(numbers)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1), method="higher")).tolist()
    texts = _texts(edges)
    found: list[Slice] = []
    for index, (low, high) in enumerate(pairwise(edges)):
        last = index == len(edges) - 2
        inside = (numbers >= low) & ((numbers <= high) if last else (numbers < high))
        found.append(_slice(column, f"{texts[index]} to {'' if last else '<'}{texts[index + 1]}", inside))
    return found


def _texts(numbers: Sequence[float]) -> list[str]:
    """Return numbers in six digits, or in as many as tell them apart; whole numbers (dates too) in full."""
    for digits in range(6, 18):
        texts = [f"{n:.0f}" if n == round(n) and abs(n) < _WHOLE_BELOW else f"{n:.{digits}g}" for n in numbers]
        if len(set(texts)) == len(texts):
            return texts
    return [repr(number) for number in numbers]


def _slice(column: str, value: str, inside: np.ndarray) -> Slice:
    return Slice(column, value, np.flatnonzero(inside))
