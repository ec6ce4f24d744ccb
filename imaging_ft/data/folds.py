"""k-fold cross-validation that doesn't leak: every training and validation image is validated on exactly once."""

from collections import Counter
from dataclasses import replace

from imaging_ft.data.deal import NONE, deal
from imaging_ft.data.draws import unit_sizes, units_of
from imaging_ft.data.prepare import Prepared
from imaging_ft.data.samples import Sample
from imaging_ft.data.splits import NOT_GROUPED
from imaging_ft.errors import DataError
from imaging_ft.types import Split

_SHOWN = 8


def folds(data: Prepared, count: int, *, seed: int) -> list[Prepared]:
    """Return `count` data sets: in each one, another part of train and validation is validation, the rest is train.

    Parts are grouped (a group and identical files stay together) and stratified by class, each class an image shows
    counted; the test split is as it was. The same seed gives the same parts, whatever the order of the rows. Raises
    DataError where a class has fewer groups than `count`, as a part would be without it.
    """
    if count < 2:
        raise DataError(f"{data.card.name}: {count} folds; cross-validation takes 2 or more")
    pool = tuple(
        sorted((sample for sample in data.samples if sample.split is not Split.TEST), key=lambda sample: sample.id)
    )
    units = units_of(pool, data.hashes)
    sizes = unit_sizes(list(pool), lambda sample: units[sample.id], data.card.task)
    _refuse_few(data, pool, sizes, count)
    dealt = deal(sizes, [1 / count] * count, seed)
    if dealt is None:
        raise DataError(
            f"{data.card.name}: no {count} grouped folds have every class in each of them; take fewer folds"
        )
    fold_of = {sample.id: dealt[units[sample.id]] for sample in pool}
    return [_with_fold(data, fold_of, fold, count, seed) for fold in range(count)]


def _refuse_few(data: Prepared, pool: tuple[Sample, ...], sizes: dict[str, Counter[str]], count: int) -> None:
    holders = Counter(name for unit in sizes.values() for name in unit if name != NONE)
    few = [f"{name} ({holders[name]})" for name in data.labels if holders[name] < count]
    if few:
        grouped = any(sample.group is not None for sample in pool)
        what = "groups" if grouped else "different files"
        more = f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
        raise DataError(
            f"{data.card.name}: {count} folds need {count} {what} of each class, and these have fewer:"
            f" {', '.join(few[:_SHOWN])}{more}; take fewer folds"
        )


def _with_fold(data: Prepared, fold_of: dict[str, int], fold: int, count: int, seed: int) -> Prepared:
    samples = tuple(
        replace(sample, split=Split.VAL if fold_of[sample.id] == fold else Split.TRAIN)
        if sample.id in fold_of
        else sample
        for sample in data.samples
    )
    ungrouped = NOT_GROUPED.partition(":")[0]
    return replace(
        data,
        samples=samples,
        split_method=f"fold {fold + 1} of {count}, seeded {seed}: stratified, grouped; test: {data.split_method}",
        warnings=tuple(warning for warning in data.warnings if not warning.startswith(ungrouped)),
    )
