"""Splits that don't leak: what the data says, else stratified and grouped, seeded.

Samples with the same bytes always count as one group, whatever the manifest says.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

from imaging_ft.data.draws import draw, units_of
from imaging_ft.data.samples import Problem, Sample
from imaging_ft.errors import DataError
from imaging_ft.types import Split, Task

VAL_SHARE = 0.15
TEST_SHARE = 0.20
_SHOWN = 8
AS_DECLARED = "as declared"
LEAK = "the declared splits leak"
NOT_GROUPED = (
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


def split_samples(
    samples: tuple[Sample, ...], hashes: dict[str, str], *, seed: int, task: Task = Task.MULTICLASS
) -> Splitting:
    """Return every sample with a split.

    Declared splits are kept. Where validation is missing, 15% of train become it; where nothing is declared,
    20% test and 15% validation are drawn. Both are stratified by class and grouped. Raises DataError where a
    group stands on two sides, where only some rows declare a split, or where a test split can't be grouped.
    """
    undeclared = [sample for sample in samples if sample.split is None]
    if undeclared and len(undeclared) < len(samples):
        where = undeclared[0].where
        raise DataError(f"{where}: no split, though other rows have one; fill in every row, or none")
    _refuse_leaking_groups(samples)
    units = units_of(samples, hashes)
    warnings = _missing_groups(samples)
    if undeclared:
        samples, note = draw(samples, units, hashes, into=Split.TEST, share=TEST_SHARE, seed=seed, task=task)
        if note:
            raise DataError(f"a test split can't be drawn: {note}; add a split column that says which is which")
        samples, note = draw(samples, units, hashes, into=Split.VAL, share=VAL_SHARE, seed=seed, task=task)
        warnings += [NOT_GROUPED.format(note)] if note else []
        method = f"seeded {seed}: stratified, " + ("grouped; validation not grouped" if note else "grouped")
        return Splitting(samples, method, tuple(warnings))
    samples, left_out = _drop_copies(samples, hashes)
    if left_out:
        evaluated = {hashes[problem.sample.id] for problem in left_out}
        twins = sum(1 for sample in samples if sample.split is not Split.TRAIN and hashes[sample.id] in evaluated)
        warnings.append(
            f"{LEAK}: {twins} images outside train have the same bytes as images before them"
            f" in train or val; these {len(left_out)} copies were left out, the later splits are as declared"
        )
    declared = {sample.split for sample in samples}
    if Split.TRAIN not in declared or Split.VAL in declared:
        return Splitting(samples, AS_DECLARED, tuple(warnings), left_out)
    samples, note = draw(samples, units, hashes, into=Split.VAL, share=VAL_SHARE, seed=seed, task=task)
    known = Split.TEST if Split.TEST in declared else Split.TRAIN
    method = f"{known} as declared; validation seeded {seed}: stratified, "
    warnings += [NOT_GROUPED.format(note)] if note else []
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
