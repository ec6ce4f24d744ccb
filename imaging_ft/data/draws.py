"""Drawing a share of the samples: stratified by class, grouped by what belongs together, seeded.

Samples with the same bytes always count as one unit, whatever the manifest says.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from imaging_ft.data.deal import NONE, deal
from imaging_ft.data.samples import Sample, classes_of
from imaging_ft.errors import DataError
from imaging_ft.types import Split, Task

_TRIES = 20


def units_of(samples: tuple[Sample, ...], hashes: dict[str, str]) -> dict[str, str]:
    """Return each sample's independent unit: groups joined where they share a file's bytes."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for sample in samples:
        content = f"bytes {hashes[sample.id]}"
        if sample.group is not None:
            # The larger name is the root (a group's, never the bytes'), so that the order of rows doesn't matter.
            low, high = sorted((root(content), root(f"group {sample.group}")))
            parent[low] = high
    return {sample.id: root(f"bytes {hashes[sample.id]}") for sample in samples}


def count_units(samples: tuple[Sample, ...], hashes: dict[str, str]) -> int:
    """Return how many independent units (groups, or else different files) the samples come from."""
    return len(set(units_of(samples, hashes).values()))


def draw(
    samples: tuple[Sample, ...],
    units: dict[str, str],
    hashes: dict[str, str],
    *,
    into: Split,
    share: float,
    seed: int,
    task: Task,
) -> tuple[tuple[Sample, ...], str]:
    """Move a share of the training (or undeclared) samples into a split.

    Returns the samples, and an empty note; or, where a class can't be on both sides by groups, the samples
    drawn by identical files alone and the reason.
    """
    pool = sorted((sample for sample in samples if sample.split in {None, Split.TRAIN}), key=lambda sample: sample.id)
    held = {sample.id for sample in pool}
    drawn = _grouped(pool, lambda sample: units[sample.id], share, seed, task)
    note = ""
    if drawn is None:
        note = lone_unit(pool, units, task)
        drawn = _grouped(pool, lambda sample: hashes[sample.id], share, seed, task)
    if drawn is None:
        lone = lone_unit(pool, {sample.id: f"bytes {hashes[sample.id]}" for sample in pool}, task)
        raise DataError(
            f"a {into} split can't be drawn from {len(pool)} images: {lone}; a class needs an image on each side:"
            " add images of it, or leave the class out"
        )
    moved = tuple(
        replace(sample, split=into if sample.id in drawn else Split.TRAIN) if sample.id in held else sample
        for sample in samples
    )
    return moved, note


def unit_sizes(samples: list[Sample], unit: Callable[[Sample], str], task: Task) -> dict[str, Counter[str]]:
    """Return how many images of each class a unit holds; one that shows none counts as NONE."""
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        sizes[unit(sample)].update(classes_of(sample, task) or (NONE,))
    return dict(sizes)


def _grouped(pool: list[Sample], unit: Callable[[Sample], str], share: float, seed: int, task: Task) -> set[str] | None:
    """Return the ids of a stratified, grouped share in which every class is on both sides, or None."""
    if task is Task.MULTILABEL:
        dealt = deal(unit_sizes(pool, unit, task), [share, 1 - share], seed)
        return None if dealt is None else {sample.id for sample in pool if dealt[unit(sample)] == 0}
    labels = np.array([sample.label for sample in pool])
    groups = np.array([unit(sample) for sample in pool])
    classes = set(labels.tolist())
    folds = round(1 / share)
    if len(set(groups.tolist())) >= folds and min(Counter(labels.tolist()).values()) >= folds:
        splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
        for kept, drawn in splitter.split(labels, labels, groups):
            if set(labels[drawn].tolist()) == classes == set(labels[kept].tolist()):
                return {pool[index].id for index in drawn.tolist()}
    taken = _by_rarest(unit_sizes(pool, unit, task), share, seed)
    return None if taken is None else {sample.id for sample in pool if unit(sample) in taken}


def _by_rarest(units: dict[str, Counter[str]], share: float, seed: int) -> set[str] | None:
    """Return units that hold a share of each class, at least one sample, and never all of it; or None.

    For classes with too few samples for folds, which would have to grow until they hold half of every class.
    """
    everything: Counter[str] = Counter()
    for held in units.values():
        everything.update(held)
    holders = {label: [name for name in sorted(units) if label in units[name]] for label in sorted(everything)}
    generator = np.random.default_rng(seed)
    for _ in range(_TRIES):
        left, taken = Counter(everything), Counter[str]()
        drawn: set[str] = set()
        for label in sorted(holders, key=lambda label: len(holders[label])):
            target = max(1.0, share * (left[label] + taken[label]))
            for index in generator.permutation(len(holders[label])).tolist():
                name = holders[label][index]
                size = units[name][label]
                nearer = abs(taken[label] + size - target) < abs(taken[label] - target)
                spares = all(left[other] > count for other, count in units[name].items())
                if name not in drawn and spares and (nearer or not taken[label]):
                    drawn.add(name)
                    taken.update(units[name])
                    left.subtract(units[name])
        if all(taken[label] and left[label] for label in holders):
            return drawn
    return None


def lone_unit(pool: list[Sample], units: dict[str, str], task: Task) -> str:
    """Return why a draw by these units failed: the classes with a single one."""
    by_class: dict[str, dict[str, Sample]] = defaultdict(dict)
    for sample in pool:
        for name in classes_of(sample, task):
            by_class[name].setdefault(units[sample.id], sample)
    lone = [
        f"{label} ({next(iter(found.values())).id if unit.startswith('bytes ') else unit.removeprefix('group ')})"
        for label, found in sorted(by_class.items())
        for unit in found
        if len(found) == 1
    ]
    what = "group" if any(unit.startswith("group ") for unit in units.values()) else "different file"
    if lone:
        return f"each of these classes has one {what}: {', '.join(lone)}"
    return "no grouped draw has every class on both sides"
