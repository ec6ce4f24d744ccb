"""How the further columns of a manifest divide the images, and whether one of them gives the class away."""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from imaging_ft.audit.result import Slice
from imaging_ft.data import Prepared, Sample
from imaging_ft.types import Split

MAX_VALUES = 12
"""A text column with more different values is no condition, but a name."""
FEW_NUMBERS = 6
"""A numeric column with more different values is cut into bins."""
BINS = 4
STRONG = 0.6
"""Cramér's V from which a column and the class go together so far that a network can learn the one for the other."""


def bins(cells: Sequence[str]) -> list[str] | None:
    """Return each cell's value or bin of values; empty text where there is none; None for a column of names."""
    try:
        numbers = np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        numbers = None
    if numbers is None or np.isinf(numbers).any() or np.isnan(numbers).all():
        return list(cells) if 0 < len({cell for cell in cells if cell}) <= MAX_VALUES else None
    known = numbers[~np.isnan(numbers)]
    if len(np.unique(known)) <= FEW_NUMBERS:
        return ["" if np.isnan(number) else cell for number, cell in zip(numbers, cells, strict=True)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1), method="higher"))
    which = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    names = [f"{low:.6g} to {high:.6g}" for low, high in itertools.pairwise(edges)]
    return ["" if np.isnan(number) else names[place] for number, place in zip(numbers, which, strict=True)]


def slices(data: Prepared) -> list[Slice]:
    """Return the counts of every column's values, in the columns' order."""
    found: list[Slice] = []
    for column, values in columns(data.samples).items():
        by_split: dict[str, Counter[Split]] = {}
        by_class: dict[str, Counter[str]] = {}
        for sample, value in zip(data.samples, values, strict=True):
            by_split.setdefault(value, Counter())[sample.split or Split.TRAIN] += 1
            by_class.setdefault(value, Counter())[sample.label] += 1
        for value in sorted(by_split, key=_order):
            splits = {split: by_split[value][split] for split in Split}
            found.append(Slice(column=column, value=value or "(empty)", splits=splits, classes=dict(by_class[value])))
    return found


def columns(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Return for each further column that is a condition the value or bin of every sample."""
    names = dict.fromkeys(name for sample in samples for name in sample.columns)
    binned = {name: bins([sample.columns.get(name, "") for sample in samples]) for name in names}
    return {name: values for name, values in binned.items() if values is not None}


def cramers_v(first: Sequence[str], second: Sequence[str]) -> float:
    """Return how far two columns determine each other, 0 to 1, corrected for chance (Bergsma 2013)."""
    rows, row = np.unique(np.array(first), return_inverse=True)
    cols, col = np.unique(np.array(second), return_inverse=True)
    n, r, c = len(first), len(rows), len(cols)
    if r < 2 or c < 2 or n < 2:
        return 0.0
    table = np.zeros((r, c))
    np.add.at(table, (row, col), 1)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / n
    phi = float(((table - expected) ** 2 / expected).sum()) / n
    phi = max(0.0, phi - (r - 1) * (c - 1) / (n - 1))
    r_corrected, c_corrected = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    return float(np.sqrt(phi / max(min(r_corrected, c_corrected) - 1, 1e-9)))


def _order(value: str) -> tuple[int, float, str]:
    head = value.split(" to ")[0]
    try:
        return (0, float(head), value)
    except ValueError:
        return (1 if value else 2, 0.0, value)
