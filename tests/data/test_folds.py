"""Cross-validation folds don't leak, hold every class, and leave the test split alone."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imaging_ft.data import Card, ImageFormat, Prepared, Sample, prepare
from imaging_ft.data.folds import folds
from imaging_ft.errors import DataError
from imaging_ft.types import Split, Task


def prepared(rows: Sequence[tuple[str, str | None, int, Split]], task: Task = Task.MULTICLASS) -> Prepared:
    """Return prepared data from rows of label, group, content and split."""
    samples = tuple(
        Sample(f"{index:04}.png", Path(f"{index:04}.png"), label, split, group)
        for index, (label, group, _, split) in enumerate(rows)
    )
    labels = tuple(sorted({name for label, *_ in rows for name in label.split("|") if name}))
    hashes = {sample.id: f"{row[2]:08x}" for sample, row in zip(samples, rows, strict=True)}
    card = Card.checked({"name": "set", "task": task, "layout": "manifest"}, where="test")
    return Prepared(card, labels, samples, hashes, ImageFormat(), "f", "as declared", True, (), ())


@st.composite
def data_sets(draw: st.DrawFn) -> Prepared:
    task = draw(st.sampled_from([Task.MULTICLASS, Task.MULTILABEL]))
    rows: list[tuple[str, str | None, int, Split]] = []
    for index in range(draw(st.integers(20, 90))):
        if task is Task.MULTILABEL:
            label = "|".join(sorted(draw(st.frozensets(st.sampled_from("abc")))))
        else:
            label = draw(st.sampled_from("abc"))
        group = draw(st.one_of(st.none(), st.integers(0, 25).map(lambda number: f"p{number}")))
        content = draw(st.integers(0, 200)) * 10 + "abc|".index(label[:1] or "|")
        split = draw(st.sampled_from([Split.TRAIN, Split.TRAIN, Split.VAL, Split.TEST]))
        rows.append((label, f"t{index}" if split is Split.TEST else group, content + 10**6 * (split == "test"), split))
    assume({name for label, *_ in rows for name in label.split("|") if name} == set("abc"))
    return prepared(rows, task)


@settings(max_examples=80, deadline=None)
@given(data_sets(), st.integers(2, 5), st.integers(0, 2), st.randoms(use_true_random=False))
def test_every_sample_is_validated_on_once_and_no_group_is_on_both_sides(
    data: Any, count: int, seed: int, order: random.Random
) -> None:
    try:
        dealt = folds(data, count, seed=seed)
    except DataError as error:
        assert "take fewer folds" in str(error)  # noqa: PT017 - a draw may hold too little for the folds
        return
    assert len(dealt) == count
    validated = Counter(sample.id for fold in dealt for sample in fold.of(Split.VAL))
    assert validated == {sample.id: 1 for sample in data.samples if sample.split is not Split.TEST}
    for fold in dealt:
        assert fold.of(Split.TEST) == data.of(Split.TEST)
        assert [sample.id for sample in fold.samples] == [sample.id for sample in data.samples]
        train, val = fold.of(Split.TRAIN), fold.of(Split.VAL)
        assert not {s.group for s in train if s.group} & {s.group for s in val if s.group}
        assert not {data.hashes[s.id] for s in train} & {data.hashes[s.id] for s in val}
        for side in (train, val):
            held = {n for s in side for n in (s.labels if data.card.task is Task.MULTILABEL else (s.label,))}
            assert held == set(data.labels)
    shuffled = list(data.samples)
    order.shuffle(shuffled)
    again = folds(replace(data, samples=tuple(shuffled)), count, seed=seed)
    assert [{s.id for s in fold.of(Split.VAL)} for fold in again] == [
        {s.id for s in fold.of(Split.VAL)} for fold in dealt
    ]


def test_the_parts_are_of_about_one_size_and_one_mixture() -> None:
    rows = [("aaab"[index % 4], f"p{index // 3}", index, Split.TRAIN) for index in range(600)]
    for fold in folds(prepared(rows), 5, seed=0):
        counts = Counter(sample.label for sample in fold.of(Split.VAL))
        assert abs(counts["a"] - 90) <= 3
        assert abs(counts["b"] - 30) <= 3


def test_another_seed_deals_other_parts() -> None:
    data = prepared([("ab"[index % 2], None, index, Split.TRAIN) for index in range(60)])
    parts = {tuple(s.id for s in folds(data, 3, seed=seed)[0].of(Split.VAL)) for seed in range(4)}
    assert len(parts) == 4


def test_a_class_with_too_few_groups_is_named() -> None:
    rows = [("a", f"p{index}", index, Split.TRAIN) for index in range(10)]
    rows += [("b", f"q{index % 3}", 100 + index, Split.TRAIN) for index in range(10)]
    with pytest.raises(DataError, match=r"set: 4 folds need 4 groups of each class, and these have fewer: b \(3\)"):
        folds(prepared(rows), 4, seed=0)
    assert len(folds(prepared(rows), 3, seed=0)) == 3
    with pytest.raises(DataError, match="2 or more"):
        folds(prepared(rows), 1, seed=0)


def test_what_is_said_about_the_split_is_still_true(make: Any) -> None:
    data = prepare(str(make.folder({"cat": 12, "dog": 12})))
    first = folds(data, 3, seed=7)[0]
    assert first.split_method == "fold 1 of 3, seeded 7: stratified, grouped; test: seeded 0: stratified, grouped"
    assert first.fingerprint == data.fingerprint
    assert first.summary()["splits"]["test"] == data.summary()["splits"]["test"]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_class_with_just_enough_groups_of_unequal_size_is_in_every_part(count: int) -> None:
    rows = [("a", f"p{index}", index, Split.TRAIN) for index in range(20)]
    rows += [("b", f"q{min(index, count - 1)}", 100 + index, Split.TRAIN) for index in range(30)]
    rows += [("c", f"p{index % count}", 200 + index, Split.TRAIN) for index in range(12)]
    for fold in folds(prepared(rows), count, seed=0):
        assert {sample.label for sample in fold.of(Split.VAL)} == {"a", "b", "c"}
