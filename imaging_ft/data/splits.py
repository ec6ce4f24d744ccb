"""Splits that don't leak: what the data says, else stratified and grouped, seeded.

Samples with the same bytes always count as one group, whatever the manifest says.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from imaging_ft.data.manifest import Problem, Sample
from imaging_ft.errors import DataError
from imaging_ft.types import Split

VAL_SHARE = 0.15
TEST_SHARE = 0.20
_SHOWN = 8
_TRIES = 20
_NOT_GROUPED = (
    "validation is not grouped: {}. It shares groups with train, so its figures are too good; the test split stays"
    " disjoint"
)


@dataclass(frozen=True)
class Splitting:
    """Samples with their splits, and how they came by them."""

    samples: tuple[Sample, ...]
    method: str
    warnings: tuple[str, ...] = ()
    left_out: tuple[Problem, ...] = ()
    """Training copies of images that also stand in a later split."""


def split_samples(samples: tuple[Sample, ...], hashes: dict[str, str], *, seed: int) -> Splitting:
    """Return every sample with a split.

    Declared splits are kept. Where validation is missing, 15% of train become it; where nothing is declared,
    20% test and 15% validation are drawn. Both are stratified by label and grouped. Raises DataError where a
    group stands on two sides, where only some rows declare a split, or where a test split can't be grouped.
    """
    undeclared = [sample for sample in samples if sample.split is None]
    if undeclared and len(undeclared) < len(samples):
        where = undeclared[0].where
        raise DataError(f"{where}: no split, though other rows have one; fill in every row, or none")
    _refuse_leaking_groups(samples)
    units = _units(samples, hashes)
    warnings = _missing_groups(samples)
    if undeclared:
        samples, note = _draw(samples, units, hashes, Split.TEST, TEST_SHARE, seed)
        if note:
            raise DataError(f"a test split can't be drawn: {note}; add a split column that says which is which")
        samples, note = _draw(samples, units, hashes, Split.VAL, VAL_SHARE, seed)
        warnings += [_NOT_GROUPED.format(note)] if note else []
        method = f"seeded {seed}: stratified, " + ("grouped; validation not grouped" if note else "grouped")
        return Splitting(samples, method, tuple(warnings))
    samples, left_out = _drop_copies(samples, hashes)
    if left_out:
        evaluated = {hashes[problem.sample.id] for problem in left_out}
        twins = sum(1 for sample in samples if sample.split is not Split.TRAIN and hashes[sample.id] in evaluated)
        warnings.append(
            f"the declared splits leak: {twins} images outside train have the same bytes as images before them"
            f" in train or val; these {len(left_out)} copies were left out, the later splits are as declared"
        )
    declared = {sample.split for sample in samples}
    if Split.TRAIN not in declared or Split.VAL in declared:
        return Splitting(samples, "as declared", tuple(warnings), left_out)
    samples, note = _draw(samples, units, hashes, Split.VAL, VAL_SHARE, seed)
    known = Split.TEST if Split.TEST in declared else Split.TRAIN
    method = f"{known} as declared; validation seeded {seed}: stratified, "
    warnings += [_NOT_GROUPED.format(note)] if note else []
    return Splitting(samples, method + ("not grouped" if note else "grouped"), tuple(warnings), left_out)


def _refuse_leaking_groups(samples: tuple[Sample, ...]) -> None:
    counts: dict[str, Counter[Split]] = defaultdict(Counter)
    for sample in samples:
        if sample.group is not None and sample.split is not None:
            counts[sample.group][sample.split] += 1
    leaking = {group: found for group, found in sorted(counts.items()) if len(found) > 1}
    if not leaking:
        return
    named = [
        f"{group} ({', '.join(f'{found[split]} in {split}' for split in Split if split in found)})"
        for group, found in leaking.items()
    ]
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    raise DataError(
        f"the splits leak: {len(named)} group{'s stand' if len(named) > 1 else ' stands'} on two sides: "
        f"{', '.join(named[:_SHOWN])}{more}; move each group to one side"
    )


def _missing_groups(samples: tuple[Sample, ...]) -> list[str]:
    without = sum(1 for sample in samples if sample.group is None)
    if not without:
        return []
    share = (
        "no group (patient, series, camera) is known" if without == len(samples) else f"{without} images have no group"
    )
    return [f"{share}: identical files are held together, but near-duplicates can stand on two sides"]


def _drop_copies(samples: tuple[Sample, ...], hashes: dict[str, str]) -> tuple[tuple[Sample, ...], tuple[Problem, ...]]:
    """Leave out of train what stands in val or test, and out of val what stands in test."""
    order = {Split.TRAIN: 0, Split.VAL: 1, Split.TEST: 2}
    last: dict[str, Sample] = {}
    for sample in samples:
        known = last.get(hashes[sample.id])
        if sample.split and (known is None or known.split is None or order[sample.split] > order[known.split]):
            last[hashes[sample.id]] = sample
    kept: list[Sample] = []
    left_out: list[Problem] = []
    for sample in samples:
        twin = last[hashes[sample.id]]
        if twin.split is sample.split:
            kept.append(sample)
        else:
            left_out.append(Problem(sample, f"the same bytes stand in {twin.split}: {twin.id}"))
    return tuple(kept), tuple(left_out)


def _units(samples: tuple[Sample, ...], hashes: dict[str, str]) -> dict[str, str]:
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
    return len(set(_units(samples, hashes).values()))


def _draw(
    samples: tuple[Sample, ...],
    units: dict[str, str],
    hashes: dict[str, str],
    into: Split,
    share: float,
    seed: int,
) -> tuple[tuple[Sample, ...], str]:
    """Move a share of the training (or undeclared) samples into a split.

    Returns the samples, and an empty note; or, where a class can't be on both sides by groups, the samples
    drawn by identical files alone and the reason.
    """
    pool = sorted((sample for sample in samples if sample.split in {None, Split.TRAIN}), key=lambda sample: sample.id)
    held = {sample.id for sample in pool}
    drawn = _grouped(pool, lambda sample: units[sample.id], share, seed)
    note = ""
    if drawn is None:
        note = _lone_unit(pool, units)
        drawn = _grouped(pool, lambda sample: hashes[sample.id], share, seed)
    if drawn is None:
        lone = _lone_unit(pool, {sample.id: f"bytes {hashes[sample.id]}" for sample in pool})
        raise DataError(
            f"a {into} split can't be drawn from {len(pool)} images: {lone}; a class needs an image on each side:"
            " add images of it, or leave the class out"
        )
    rest = Split.TRAIN
    moved = tuple(
        replace(sample, split=into if sample.id in drawn else rest) if sample.id in held else sample
        for sample in samples
    )
    return moved, note


def _grouped(pool: list[Sample], unit: Callable[[Sample], str], share: float, seed: int) -> set[str] | None:
    """Return the ids of a stratified, grouped share in which every class is on both sides, or None."""
    labels = np.array([sample.label for sample in pool])
    groups = np.array([unit(sample) for sample in pool])
    classes = set(labels.tolist())
    folds = round(1 / share)
    if len(set(groups.tolist())) >= folds and min(Counter(labels.tolist()).values()) >= folds:
        splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
        for kept, drawn in splitter.split(labels, labels, groups):
            if set(labels[drawn].tolist()) == classes == set(labels[kept].tolist()):
                return {pool[index].id for index in drawn.tolist()}
    taken = _by_rarest(labels.tolist(), groups.tolist(), share, seed)
    return None if taken is None else {sample.id for sample in pool if unit(sample) in taken}


def _by_rarest(labels: list[str], groups: list[str], share: float, seed: int) -> set[str] | None:
    """Return units that hold a share of each class, at least one sample, and never all of it; or None.

    For classes with too few samples for folds, which would have to grow until they hold half of every class.
    """
    units: dict[str, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        units[group][label] += 1
    holders = {label: [name for name in sorted(units) if label in units[name]] for label in sorted(set(labels))}
    generator = np.random.default_rng(seed)
    for _ in range(_TRIES):
        left, taken = Counter(labels), Counter[str]()
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


def _lone_unit(pool: list[Sample], units: dict[str, str]) -> str:
    """Return why a draw by these units failed: the classes with a single one."""
    by_class: dict[str, dict[str, Sample]] = defaultdict(dict)
    for sample in pool:
        by_class[sample.label].setdefault(units[sample.id], sample)
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
