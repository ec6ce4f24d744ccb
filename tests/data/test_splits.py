"""Splits don't leak, hold every class, and are the same again."""

import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging_ft.data import Sample, prepare
from imaging_ft.data.splits import TEST_SHARE, Splitting, split_samples
from imaging_ft.errors import DataError
from imaging_ft.types import Split

Labelled = tuple[str, str | None, int, Split | None]
"""A row's label, group, content and split."""


def samples_of(rows: Sequence[Labelled]) -> tuple[tuple[Sample, ...], dict[str, str]]:
    """Return samples and hashes from rows of label, group, content and split."""
    samples = tuple(
        Sample(f"{index:04}.png", Path(f"{index:04}.png"), label, split, group, row=index + 2)
        for index, (label, group, _, split) in enumerate(rows)
    )
    return samples, {sample.id: f"{row[2]:08x}" for sample, row in zip(samples, rows, strict=True)}


def split_or_refusal(samples: tuple[Sample, ...], hashes: dict[str, str], seed: int) -> Splitting | str:
    """Return the split samples, or the message that says why they can't be split."""
    try:
        return split_samples(samples, hashes, seed=seed)
    except DataError as error:
        return str(error)


@st.composite
def data_sets(draw: st.DrawFn, *, split: Split | None = None) -> list[Labelled]:
    """Rows of two to four classes: groups of one or several classes, rows without group, files that repeat."""
    classes = draw(st.integers(2, 4))
    rows: list[Labelled] = []
    for label in "abcd"[:classes]:
        for _ in range(draw(st.integers(3, 25))):
            group = draw(st.one_of(st.none(), st.integers(0, 30).map(lambda number: f"p{number}")))
            # One content has one label, as check.label_conflicts has seen to it.
            content = 1000 * ord(label) + draw(st.integers(0, 60))
            rows.append((label, group, content, split))
    return rows


def sides(samples: tuple[Sample, ...], keys: dict[str, str | None]) -> dict[str, set[Split | None]]:
    found: dict[str, set[Split | None]] = defaultdict(set)
    for sample in samples:
        key = keys[sample.id]
        if key is not None:
            found[key].add(sample.split)
    return found


@settings(max_examples=60, deadline=None)
@given(data_sets(), st.integers(0, 3))
def test_a_drawn_split_keeps_groups_and_files_whole_and_classes_on_every_side(rows: Any, seed: int) -> None:
    samples, hashes = samples_of(rows)
    drawn = split_or_refusal(samples, hashes, seed)
    if isinstance(drawn, str):
        assert "can't be drawn" in drawn
        return
    files = sides(drawn.samples, dict(hashes))
    assert all(len(found) == 1 for found in files.values())
    groups = sides(drawn.samples, {sample.id: sample.group for sample in samples})
    assert all(len({Split.TEST} & found) == 0 or found == {Split.TEST} for found in groups.values())
    if "validation not grouped" not in drawn.method:
        assert all(len(found) == 1 for found in groups.values())
    for split in Split:
        assert {sample.label for sample in drawn.samples if sample.split == split} == {row[0] for row in rows}
    assert [sample.id for sample in drawn.samples] == [sample.id for sample in samples]


@settings(max_examples=40, deadline=None)
@given(data_sets(), st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_same_seed_draws_the_same_whatever_the_order_of_rows(rows: Any, order: random.Random, seed: int) -> None:
    samples, hashes = samples_of(rows)
    shuffled = list(samples)
    order.shuffle(shuffled)
    expected = split_or_refusal(samples, hashes, seed)
    again = split_or_refusal(tuple(shuffled), hashes, seed)
    if isinstance(expected, str) or isinstance(again, str):
        assert again == expected
        return
    assert {sample.id: sample.split for sample in again.samples} == {
        sample.id: sample.split for sample in expected.samples
    }
    assert again.warnings == expected.warnings


@settings(max_examples=40, deadline=None)
@given(data_sets(split=Split.TRAIN))
def test_validation_is_drawn_from_train_alone(rows: Any) -> None:
    tests = [(row[0], None, 900_000 + index, Split.TEST) for index, row in enumerate(rows[:: len(rows) // 3])]
    samples, hashes = samples_of([*rows, *tests])
    drawn = split_or_refusal(samples, hashes, 0)
    if isinstance(drawn, str):
        assert "a val split can't be drawn" in drawn
        return
    assert drawn.method.startswith("test as declared; validation seeded 0")
    before = {sample.id: sample.split for sample in samples}
    assert all((sample.split is Split.TEST) == (before[sample.id] is Split.TEST) for sample in drawn.samples)


def test_another_seed_draws_another_split() -> None:
    samples, hashes = samples_of([("ab"[index % 2], None, index, None) for index in range(60)])
    draws = {tuple(s.split for s in split_samples(samples, hashes, seed=seed).samples) for seed in range(4)}
    assert len(draws) == 4


@pytest.mark.parametrize("few", [3, 4, 5])
def test_a_rare_class_does_not_swell_the_test_split(few: int) -> None:
    rows = [("common", None, index, None) for index in range(400)]
    samples, hashes = samples_of([*rows, *(("rare", None, 1000 + index, None) for index in range(few))])
    drawn = split_samples(samples, hashes, seed=0)
    tested = [sample.label for sample in drawn.samples if sample.split is Split.TEST]
    assert tested.count("rare") == 1
    assert abs(tested.count("common") / 400 - TEST_SHARE) < 0.05


def test_a_group_on_two_sides_is_refused_by_name() -> None:
    rows = [("ab"[index % 2], f"p{index // 2}", index, Split.TRAIN) for index in range(12)]
    samples, hashes = samples_of([*rows, ("a", "p3", 77, Split.TEST), ("b", "q", 78, Split.TEST)])
    with pytest.raises(DataError, match=r"1 group stands on two sides: p3 \(2 in train, 1 in test\); move"):
        split_samples(samples, hashes, seed=0)


def test_many_leaking_groups_are_cut_with_a_count() -> None:
    rows = [("a", f"p{index:02}", 2 * index + side, part) for index in range(12)
            for side, part in enumerate((Split.TRAIN, Split.TEST))]  # fmt: skip
    with pytest.raises(DataError, match=r"12 groups stand on two sides: p00 .* and 4 more; move"):
        split_samples(*samples_of(rows), seed=0)


ONE_EACH = [("ab"[index % 2], f"series {'AB'[index % 2]}", index, Split.TRAIN) for index in range(40)]


def test_one_group_a_class_gives_an_ungrouped_validation_and_says_which() -> None:
    tests = [("ab"[index % 2], "tested", 500 + index, Split.TEST) for index in range(10)]
    drawn = split_samples(*samples_of([*ONE_EACH, *tests]), seed=0)
    (warning,) = drawn.warnings
    assert "validation is not grouped" in warning
    assert "a (series A), b (series B)" in warning
    assert drawn.method.endswith("not grouped")
    for split in (Split.TRAIN, Split.VAL):
        assert {sample.label for sample in drawn.samples if sample.split is split} == {"a", "b"}


def test_one_group_a_class_and_no_declared_split_is_refused_with_the_remedy() -> None:
    rows = [(label, group, content, None) for label, group, content, _ in ONE_EACH]
    with pytest.raises(DataError) as caught:
        split_samples(*samples_of(rows), seed=0)
    for part in ("a test split can't be drawn", "a (series A), b (series B)", "add a split column"):
        assert part in str(caught.value)


def test_a_class_with_too_few_images_is_named() -> None:
    rows = [("a", None, index, None) for index in range(20)] + [("rare", None, 100 + index, None) for index in range(2)]
    with pytest.raises(DataError, match=r"can't be drawn from \d+ images: each of these classes has one .*rare \(00"):
        split_samples(*samples_of(rows), seed=0)


def test_a_split_column_filled_in_part_names_the_row() -> None:
    rows: Any = [("ab"[index % 2], None, index, Split.TRAIN) for index in range(10)]
    rows[4] = ("a", None, 4, None)
    with pytest.raises(DataError, match=r"0004\.png \(row 6\): no split, though other rows have one"):
        split_samples(*samples_of(rows), seed=0)


def test_training_copies_of_tested_files_are_left_out_with_a_warning() -> None:
    rows = [("ab"[index % 2], None, index, Split.TRAIN) for index in range(40)]
    tests = [("ab"[index % 2], None, index, Split.TEST) for index in range(6)]
    drawn = split_samples(*samples_of([*rows, *tests]), seed=0)
    assert [problem.sample.id for problem in drawn.left_out] == [f"{index:04}.png" for index in range(6)]
    assert "the same bytes stand in test: 0040.png" in drawn.left_out[0].what
    assert any("6 images outside train" in warning and "these 6 copies" in warning for warning in drawn.warnings)
    assert sum(1 for sample in drawn.samples if sample.split is Split.TEST) == 6


def test_a_missing_group_is_said_and_identical_files_are_held_together() -> None:
    rows = [("ab"[index % 2], "p" if index == 0 else None, index // 2 * 2 + index % 2, None) for index in range(40)]
    assert any("39 images have no group" in warning for warning in split_samples(*samples_of(rows), seed=0).warnings)


def test_groups_that_share_a_file_stand_on_one_side() -> None:
    rows = [("ab"[index % 2], f"p{index // 4}", index, None) for index in range(80)]
    rows += [("a", "p0", 0, None), ("a", "p9", 0, None)]
    for seed in range(5):
        drawn = split_samples(*samples_of(rows), seed=seed)
        assert len({sample.split for sample in drawn.samples if sample.group in {"p0", "p9"}}) == 1


def fingerprint(path: Path) -> str:
    return prepare(str(path)).fingerprint


def test_the_fingerprint_ignores_place_and_order_and_sees_label_split_and_byte(make: Any, tmp_path: Path) -> None:
    rows = [[*row, "test" if index % 3 == 0 else "train"] for index, row in enumerate(make.good())]
    header = "image,label,split"
    manifest = make.manifest(rows, header=header)
    original = fingerprint(manifest)
    moved = tmp_path / "some where"
    shutil.copytree(make.root, moved)
    assert fingerprint(moved / manifest.name) == original
    make.manifest(rows[::-1], header=header)
    assert fingerprint(manifest) == original
    make.manifest([[f"{make.root.resolve()}/{row[0]}", *row[1:]] for row in rows], header=header)
    assert fingerprint(manifest) == original
    changed = [["cat0.png", "dog", "test"], ["cat0.png", "cat", "train"]]
    for first in changed:
        assert fingerprint(make.manifest([first, *rows[1:]], header=header)) != original
    make.manifest(rows, header=header)
    make.image(rows[0][0])
    assert fingerprint(manifest) != original


def test_the_split_is_the_same_whichever_splits_are_decoded(make: Any) -> None:
    manifest = make.manifest(make.good(per_class=15))
    (make.root / "cat3.png").write_bytes((make.root / "cat3.png").read_bytes()[:60])
    whole = prepare(str(manifest), skip_bad=True)
    for split in Split:
        part = prepare(str(manifest), skip_bad=True, decode=frozenset({split}))
        assert part.fingerprint == whole.fingerprint
        assert [sample.id for sample in part.of(split)] == [sample.id for sample in whole.of(split)]


def test_the_same_seed_gives_the_same_prepared_data_and_summary(make: Any) -> None:
    root = str(make.folder({"cat": 12, "dog": 12}))
    assert prepare(root, seed=5).summary() == prepare(root, seed=5).summary()
    assert prepare(root, seed=5).of(Split.TEST) != prepare(root, seed=6).of(Split.TEST)
    assert not prepare(root).declared
