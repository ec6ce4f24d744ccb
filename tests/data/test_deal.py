"""Units are dealt so that every part has every class, in about the shares that were asked for."""

from collections import Counter

import pytest

from imaging_ft.data.deal import NONE, deal


def test_two_units_of_a_class_go_to_two_parts_however_small_one_is() -> None:
    sizes = {f"u{index:02}": Counter({"common": 1}) for index in range(40)}
    sizes |= {"r1": Counter({"rare": 1}), "r2": Counter({"rare": 1, "common": 1})}
    dealt = deal(sizes, [0.15, 0.85], seed=0)
    assert dealt is not None
    assert {dealt["r1"], dealt["r2"]} == {0, 1}
    assert sum(1 for part in dealt.values() if part == 0) in {6, 7}


def test_a_class_with_fewer_units_than_parts_cannot_be_dealt() -> None:
    sizes = {"u1": Counter({"a": 1}), "u2": Counter({"a": 1, "b": 1}), "u3": Counter({"a": 1})}
    assert deal(sizes, [1 / 3] * 3, seed=0) is None


def test_images_that_show_no_class_are_balanced_but_not_needed() -> None:
    sizes = {f"u{index:02}": Counter({"a": 1, "b": 1}) for index in range(10)}
    assert deal(sizes | {"n": Counter({NONE: 1})}, [0.5, 0.5], seed=0) is not None
    many = sizes | {f"n{index:02}": Counter({NONE: 1}) for index in range(40)}
    dealt = deal(many, [0.25, 0.75], seed=0)
    assert dealt is not None
    assert sum(1 for unit, part in dealt.items() if unit[0] == "n" and part == 0) == pytest.approx(10, abs=2)


def test_the_order_of_the_units_does_not_matter_and_the_seed_does() -> None:
    sizes = {f"u{index:02}": Counter({"ab"[index % 2]: 1 + index % 3}) for index in range(30)}
    turned = dict(reversed(list(sizes.items())))
    assert deal(sizes, [0.2, 0.8], seed=1) == deal(turned, [0.2, 0.8], seed=1)
    assert deal(sizes, [0.2, 0.8], seed=1) != deal(sizes, [0.2, 0.8], seed=2)
