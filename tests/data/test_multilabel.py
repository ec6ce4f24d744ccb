"""Images that show several classes, or none, all through the data layer."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging_ft.data import Sample, load, prepare
from imaging_ft.data.images import targets
from imaging_ft.data.splits import split_samples
from imaging_ft.errors import ConfigError, DataError
from imaging_ft.types import Split, Task

COMBINATIONS = ["", "cough", "fever", "cough|fever", "fever|rash", "rash", "cough|fever|rash", "cough"]


def rows(count: int = 48, *, per_group: int = 1) -> list[list[str]]:
    return [
        [f"{index}.png", COMBINATIONS[index % len(COMBINATIONS)], f"p{index // per_group}"] for index in range(count)
    ]


def card_of(make: Any, lines: str) -> str:
    path = make.root / "set.yaml"
    path.write_text(f"name: set\nlayout: manifest\n{lines}\n", encoding="utf-8")
    return str(path)


def test_a_manifest_whose_column_is_called_labels_is_multi_label(make: Any) -> None:
    manifest = make.manifest([["a.png", " rash| fever||fever"], ["b.png", ""]], header="image,labels")
    dataset = load(str(manifest))
    assert dataset.card.task is Task.MULTILABEL
    assert [sample.labels for sample in dataset.samples] == [("fever", "rash"), ()]
    assert dataset.labels == ("fever", "rash")
    assert not dataset.problems


def test_one_called_label_stays_what_it_was(make: Any) -> None:
    manifest = make.manifest([["a.png", "x|y"], ["b.png", "z"]])
    assert load(str(manifest)).labels == ("x|y", "z")


def test_two_label_columns_are_not_guessed_between(make: Any) -> None:
    manifest = make.manifest([["a.png", "x", "y"]], header="image,label,labels")
    with pytest.raises(DataError, match="has a column 'label' and a column 'labels'; keep"):
        load(str(manifest))


def test_a_card_has_to_say_that_its_task_is_multi_label(make: Any) -> None:
    make.manifest([["a.png", "x"]], header="image,labels")
    with pytest.raises(DataError, match="write task: multilabel in the card"):
        load(card_of(make, ""))
    assert load(card_of(make, "task: multilabel")).card.task is Task.MULTILABEL


def test_a_parquet_manifest_may_leave_cells_null(make: Any) -> None:
    for name in ("a.png", "b.png"):
        make.image(name)
    path = make.root / "set.parquet"
    pl.DataFrame({"image": ["a.png", "b.png"], "labels": ["x|y", None]}).write_parquet(path)
    assert [sample.labels for sample in load(str(path)).samples] == [("x", "y"), ()]


def test_the_publishers_word_for_none_is_no_class(make: Any) -> None:
    make.manifest([["a.png", "No Finding"], ["b.png", "x|No Finding"], ["c.png", "x"]], header="file,findings")
    dataset = load(card_of(make, "task: multilabel\ncolumns: {image: file, label: findings}\nnone: No Finding"))
    assert [sample.labels for sample in dataset.samples] == [(), ("x",)]
    assert str(dataset.problems[0]).endswith("(row 3): says 'No Finding' beside x")


def test_a_column_for_each_class(make: Any) -> None:
    table = [["a.png", "1", "0", "7"], ["b.png", "0.0", "1.0", "8"], ["c.png", "0", "FALSE", "9"]]
    table += [["d.png", "1", "", ""], ["e.png", "1", "2", ""]]
    make.manifest(table, header="image,cough,fever,age")
    dataset = load(card_of(make, "task: multilabel\nlabels: [fever, cough]\nlabel_columns: true"))
    assert [sample.labels for sample in dataset.samples] == [("cough",), ("fever",), ()]
    assert dataset.samples[0].columns == {"age": "7"}
    assert [str(problem).partition("): ")[2] for problem in dataset.problems] == [
        "column 'fever' is empty; expected '1', '1.0', 'true', '0', '0.0' or 'false'",
        "column 'fever' holds '2'; expected '1', '1.0', 'true', '0', '0.0' or 'false'",
    ]


def test_a_card_says_what_blank_and_uncertain_cells_mean(make: Any) -> None:
    make.manifest([["a.png", "1.0", "-1.0"], ["b.png", "", "0.0"]], header="image,cough,fever")
    rule = "task: multilabel\nlabels: [cough, fever]\nlabel_columns: {shown: ['1.0', '-1.0'], not_shown: ['0.0', '']}"
    assert [sample.labels for sample in load(card_of(make, rule)).samples] == [("cough", "fever"), ()]


def test_columns_of_a_single_label_task_show_exactly_one(make: Any) -> None:
    make.manifest([["a.png", "1", "0"], ["b.png", "1", "1"], ["c.png", "0", "0"]], header="image,cough,fever")
    dataset = load(card_of(make, "labels: [cough, fever]\nlabel_columns: true"))
    assert [sample.label for sample in dataset.samples] == ["cough"]
    assert [str(problem).partition("): ")[2] for problem in dataset.problems] == [
        "shows 2 classes (cough, fever), where one is expected; several need task: multilabel",
        "shows none of the classes, where one is expected; several need task: multilabel",
    ]


def test_a_missing_class_column_is_named(make: Any) -> None:
    make.manifest([["a.png", "1"]], header="image,cough")
    with pytest.raises(DataError, match=r"no column 'fever' \(the class\)"):
        load(card_of(make, "task: multilabel\nlabels: [cough, fever]\nlabel_columns: true"))


def test_an_unknown_class_among_several_is_a_bad_row(make: Any) -> None:
    make.manifest([["a.png", "cough|fevre"]], header="image,labels")
    dataset = load(card_of(make, "task: multilabel\nlabels: [cough, fever]"))
    assert "unknown label 'fevre'; did you mean 'fever'?" in str(dataset.problems[0])


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("task: multilabel\nlayout: folder", "a folder shows one class an image"),
        ("task: multilabel\nlayout: manifest\nlabels: [a, 'b|c']", "separates the classes"),
        ("layout: manifest\nnone: nothing", "none is for task: multilabel"),
        ("layout: manifest\nlabel_columns: true", "label_columns needs labels"),
        ("layout: manifest\nlabels: [a, b]\nlabel_columns: {shown: ['1'], not_shown: ['1']}", "stands in shown and"),
        ("layout: npz", "belong together"),
        ("image_path: images/x.png", "has no {image} in it"),
        ("ignore: '('", "not a regular expression"),
    ],
)
def test_a_card_that_contradicts_itself_is_one_line(tmp_path: Path, lines: str, what: str) -> None:
    (tmp_path / "set.yaml").write_text(f"name: set\n{lines}\n")
    with pytest.raises(ConfigError, match=what) as caught:
        load(str(tmp_path / "set.yaml"))
    assert "\n" not in str(caught.value)


def test_a_folder_with_a_multi_label_card_is_refused(make: Any) -> None:
    make.folder({"cat": 2, "dog": 2})
    (make.root / "set.yaml").write_text("name: set\ntask: multilabel\n")
    with pytest.raises(DataError, match="a folder shows one class an image; a multi-label task needs"):
        load(str(make.root / "set.yaml"))


def test_the_same_bytes_with_other_classes_contradict_each_other_in_any_order(make: Any) -> None:
    table = [*rows(), ["t1.png", "fever|cough", "q1"], ["t2.png", "cough|fever", "q2"], ["t3.png", "", "q3"]]
    manifest = make.manifest(table, header="image,labels,group")
    content = (make.root / "t1.png").read_bytes()
    (make.root / "t2.png").write_bytes(content)
    assert len(prepare(str(manifest)).samples) == 51
    (make.root / "t3.png").write_bytes(content)
    with pytest.raises(DataError) as caught:
        prepare(str(manifest))
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "labelled 'cough|fever', but the same bytes are labelled with none of the classes" in lines[0]
    assert "labelled with none of the classes, but the same bytes are labelled 'cough|fever'" in lines[2]


def test_counts_are_by_class_and_none_is_counted_too(make: Any) -> None:
    data = prepare(str(make.manifest(rows(), header="image,labels,group")))
    summary = data.summary()
    total = Counter(name for sample in data.samples for name in sample.labels)
    assert total == {"cough": 24, "fever": 24, "rash": 18}
    for name in data.labels:
        assert sum(part["classes"][name] for part in summary["splits"].values()) == total[name]
    assert sum(part["none"] for part in summary["splits"].values()) == 6
    assert "none" not in prepare(str(make.manifest(make.good(), name="one.csv"))).summary()["splits"]["train"]


def test_the_targets_are_multi_hot(make: Any) -> None:
    data = prepare(str(make.manifest(rows(), header="image,labels,group")))
    found = targets(data.samples, data.labels, data.card.task)
    assert data.labels == ("cough", "fever", "rash")
    assert np.array_equal(found[:5], [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]])


def test_a_class_with_one_sample_is_refused_and_so_is_what_that_leaves_alone(make: Any) -> None:
    table = [*rows(), ["x.png", "mumps|polio", "q1"], ["y.png", "polio", "q2"]]
    manifest = make.manifest(table, header="image,labels,group")
    with pytest.raises(DataError, match=r"x\.png \(row 50\): the only usable sample of class 'mumps'"):
        prepare(str(manifest))
    data = prepare(str(manifest), skip_bad=True)
    assert [problem.sample.row for problem in data.skipped] == [50, 51]
    assert data.labels == ("cough", "fever", "rash")


def test_a_class_that_train_lacks_is_named(make: Any) -> None:
    table = [["a.png", "x|y", "train"], ["b.png", "x", "train"], ["c.png", "y|z", "test"], ["d.png", "z", "test"]]
    table += [["e.png", "", "val"], ["f.png", "x|y", "val"]]
    with pytest.raises(DataError, match="class 'z' stands in test but not in train, which has: x, y"):
        prepare(str(make.manifest(table, header="image,labels,split")))


def test_the_fingerprint_is_the_same_whatever_the_order_of_the_classes(make: Any) -> None:
    first = prepare(str(make.manifest(rows(), header="image,labels,group"))).fingerprint
    turned = [[name, "|".join(reversed(labels.split("|"))), group] for name, labels, group in rows()]
    assert prepare(str(make.manifest(turned, header="image,labels,group"))).fingerprint == first
    other = [["0.png", "rash", "p0"], *rows()[1:]]
    assert prepare(str(make.manifest(other, header="image,labels,group"))).fingerprint != first


@st.composite
def label_sets(draw: st.DrawFn) -> list[tuple[frozenset[str], int]]:
    """Rows of a set of classes and a group; each class stands in at least six groups of its own."""
    found = [(frozenset(name), 1000 + 10 * index + copy) for index, name in enumerate("abcd") for copy in range(6)]
    more = st.tuples(st.frozensets(st.sampled_from("abcd")), st.integers(0, 20))
    return found + draw(st.lists(more, max_size=80))


@settings(max_examples=60, deadline=None)
@given(label_sets(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_a_drawn_split_is_grouped_and_holds_every_class_on_every_side(
    table: Any, seed: int, order: random.Random
) -> None:
    samples = [
        Sample(f"{index:03}.png", Path(f"{index:03}.png"), "|".join(sorted(names)), None, f"p{group}", row=index + 2)
        for index, (names, group) in enumerate(table)
    ]
    hashes = {sample.id: f"{index:08x}" for index, sample in enumerate(samples)}
    drawn = split_samples(tuple(samples), hashes, seed=seed, task=Task.MULTILABEL).samples
    assert [sample.id for sample in drawn] == [sample.id for sample in samples]
    sides: dict[str | None, set[Split | None]] = {}
    for sample in drawn:
        sides.setdefault(sample.group, set()).add(sample.split)
    assert all(len(found) == 1 for found in sides.values())
    for split in Split:
        assert {name for sample in drawn if sample.split is split for name in sample.labels} == set("abcd")
    order.shuffle(samples)
    again = split_samples(tuple(samples), hashes, seed=seed, task=Task.MULTILABEL).samples
    assert {sample.id: sample.split for sample in again} == {sample.id: sample.split for sample in drawn}


def test_shares_are_about_what_was_asked_for_in_every_class() -> None:
    rng = np.random.default_rng(0)
    rates = {"a": 0.5, "b": 0.2, "c": 0.05, "d": 0.01}
    samples = tuple(
        Sample(f"{i:05}", Path(f"{i:05}"), "|".join(n for n, rate in rates.items() if rng.random() < rate))
        for i in range(3000)
    )
    hashes = {sample.id: sample.id for sample in samples}
    drawn = split_samples(samples, hashes, seed=0, task=Task.MULTILABEL).samples
    test = [sample for sample in drawn if sample.split is Split.TEST]
    assert abs(len(test) / 3000 - 0.2) < 0.02
    for name in rates:
        total = sum(name in sample.labels for sample in samples)
        held = sum(name in sample.labels for sample in test)
        assert abs(held / total - 0.2) < 0.03 + 1 / total


def test_a_class_with_three_groups_is_on_every_side() -> None:
    table = [("a|b" if index % 3 else "", f"p{index}") for index in range(60)]
    table += [("b|c", "q0"), ("c", "q1"), ("a|c", "q2"), ("a|c", "q2"), ("c", "q2")]
    samples = tuple(Sample(f"{i:03}", Path(f"{i:03}"), label, None, group) for i, (label, group) in enumerate(table))
    for seed in range(5):
        drawn = split_samples(samples, {s.id: s.id for s in samples}, seed=seed, task=Task.MULTILABEL)
        assert "not grouped" not in drawn.method
        for split in Split:
            assert {n for s in drawn.samples if s.split is split for n in s.labels} == {"a", "b", "c"}
