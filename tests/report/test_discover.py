"""Weak slices: what is planted is found and confirmed, noise is not, and groups are what counts."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from scipy.stats import fisher_exact

from imaging_ft.report.discover import KEPT, MIN_GROUPS, MIN_IMAGES, discover
from imaging_ft.report.observed import codes_of, observe
from imaging_ft.report.result import Discovered
from imaging_ft.types import Ints

Codes = dict[str, tuple[Ints, list[str]]]
Bools = npt.NDArray[np.bool_]
VALUES = 4


def images(
    seed: int, *, n: int = 2000, columns: int = 6, accuracy: float = 0.85, groups: int | None = None, icc: float = 0.0
) -> tuple[Codes, Bools, Ints]:
    """Return columns that say nothing, answers, and groups.

    Odd columns are of the groups, even ones of the images; one code in five is -1. With `icc`, groups differ in
    accuracy by a beta distribution, so that answers within one correlate so much.
    """
    rng = np.random.default_rng(seed)
    units = groups or n
    of = np.arange(n) if groups is None else np.sort(rng.integers(0, units, n))
    codes: Codes = {}
    for column in range(columns):
        own, shared = rng.integers(-1, VALUES, n), rng.integers(-1, VALUES, units)[of]
        codes[f"c{column}"] = (shared if column % 2 else own, [f"v{code}" for code in range(VALUES)])
    spread = (1 - icc) / icc if icc else np.inf
    share = rng.beta(accuracy * spread, (1 - accuracy) * spread, units)[of] if icc else np.full(n, accuracy)
    return codes, rng.random(n) < share, of


def weakened(codes: Codes, right: Bools, where: Mapping[str, str], accuracy: float) -> Bools:
    """Return the answers with those of one slice given anew."""
    inside = np.ones(len(right), dtype=np.bool_)
    for name, value in where.items():
        inside &= codes[name][0] == codes[name][1].index(value)
    return np.where(inside, np.random.default_rng(99).random(len(right)) < accuracy, right)


def confirmed(found: list[Discovered]) -> list[dict[str, str]]:
    return [one.conditions for one in found if one.confirmed]


@pytest.mark.parametrize("groups", [None, 150])
@pytest.mark.parametrize("where", [{"c1": "v2"}, {"c2": "v0"}])
def test_a_planted_weak_value_is_found_first_and_confirmed(where: dict[str, str], groups: int | None) -> None:
    for seed in range(5):
        codes, right, of = images(seed, groups=groups, icc=0.2 if groups else 0)
        found = discover(codes, weakened(codes, right, where, 0.6), of, seed=seed)
        assert found[0].conditions == where
        assert found[0].confirmed
        assert found[0].accuracy.low <= 0.6 <= found[0].accuracy.high
        assert found[0].rest == pytest.approx(0.85, abs=0.06)


@pytest.mark.parametrize("groups", [None, 2000])
def test_a_planted_weak_pair_is_found_and_confirmed(groups: int | None) -> None:
    where = {"c1": "v2", "c4": "v0"}
    for seed in range(5):
        codes, right, of = images(seed, n=6000, groups=groups)
        found = discover(codes, weakened(codes, right, where, 0.5), of, seed=seed)
        assert where in confirmed(found)


def test_pairs_do_not_repeat_a_value_that_is_weak_by_itself() -> None:
    repeats = 0
    for seed in range(20):
        codes, right, of = images(seed, n=6000)
        found = discover(codes, weakened(codes, right, {"c1": "v2"}, 0.6), of, seed=seed)
        repeats += sum(one.conditions.get("c1") == "v2" and len(one.conditions) == 2 for one in found)
    assert repeats <= 10, "of 20 runs with 16 such pairs each, chance lets a few through"


@pytest.mark.parametrize(
    ("groups", "icc", "accuracy"), [(None, 0, 0.85), (None, 0, 0.3), (100, 0.3, 0.85), (100, 0.6, 0.85), (40, 0.3, 0.4)]
)
def test_noise_is_rarely_confirmed(groups: int | None, icc: float, accuracy: float) -> None:
    false = 0
    for seed in range(100):
        codes, right, of = images(seed, n=1500, groups=groups, icc=icc, accuracy=accuracy)
        false += bool(confirmed(discover(codes, right, of, seed=seed)))
    assert false <= 7


def test_the_halves_are_split_by_groups() -> None:
    # Each group is all right or all wrong, and c1 is of the groups: halves split by images would confirm chance.
    false = 0
    for seed in range(40):
        codes, _, of = images(seed, n=1500, groups=60)
        right = (np.random.default_rng(seed + 500).random(60) < 0.8)[of]
        false += bool(confirmed(discover(codes, right, of, seed=seed)))
    assert false <= 3


def test_the_figures_are_those_of_either_half() -> None:
    codes, right, of = images(3)
    right = weakened(codes, right, {"c1": "v2"}, 0.6)
    [best, *_] = discover(codes, right, of)
    inside = codes["c1"][0] == 2
    assert best.found_n + best.n == inside.sum()
    assert best.found.value * best.found_n + best.accuracy.value * best.n == pytest.approx(right[inside].sum())
    assert best.n >= MIN_IMAGES
    assert best.found.value < right[~inside].mean()


def test_p_of_independent_images_is_fishers() -> None:
    rng = np.random.default_rng(1)
    column = rng.integers(0, 2, 400)
    right = rng.random(400) < np.where(column == 1, 0.6, 0.75)
    [found] = discover({"x": (column, ["a", "b"])}, right, np.arange(400))
    hits = round(found.accuracy.value * found.n)
    others = 200 - found.n
    right_others = round(found.rest * others)
    table = [[hits, found.n - hits], [right_others, others - right_others]]
    assert found.p == pytest.approx(fisher_exact(table, alternative="less")[1], rel=1e-9)
    assert found.accuracy.method == "wilson"


def test_p_is_adjusted_for_all_that_were_kept() -> None:
    codes, right, of = images(1, n=4000)
    alone = discover({"c1": codes["c1"]}, weakened(codes, right, {"c1": "v2"}, 0.75), of)
    among = discover(codes, weakened(codes, right, {"c1": "v2"}, 0.75), of)
    assert len(alone) == 1
    assert len(among) > 1
    assert among[0].p == pytest.approx(alone[0].p * len(among))
    assert [one.p for one in among] == sorted(one.p for one in among)


def test_repeating_every_image_in_its_group_makes_nothing_surer() -> None:
    codes, right, of = images(7, n=600)
    right = weakened(codes, right, {"c1": "v2"}, 0.6)
    once = discover(codes, right, of)
    many = {name: (np.repeat(column, 20), names) for name, (column, names) in codes.items()}
    repeated = discover(many, np.repeat(right, 20), np.repeat(of, 20))
    best = {str(one.conditions): one for one in repeated}
    assert once[0].p < best[str(once[0].conditions)].p * 3
    assert best[str(once[0].conditions)].accuracy.method == "wilson_by_group"


def test_the_same_seed_finds_the_same_and_another_deals_other_halves() -> None:
    codes, right, of = images(2, groups=200, icc=0.2)
    right = weakened(codes, right, {"c1": "v2"}, 0.6)
    assert discover(codes, right, of, seed=4) == discover(codes, right, of, seed=4)
    assert discover(codes, right, of, seed=4)[0].found_n != discover(codes, right, of, seed=5)[0].found_n


def test_groups_may_be_numbered_with_gaps() -> None:
    codes, right, of = images(2, groups=200, icc=0.2)
    right = weakened(codes, right, {"c1": "v2"}, 0.6)
    assert discover(codes, right, of * 10**9) == discover(codes, right, of)


def test_small_slices_and_slices_of_few_groups_are_not_searched() -> None:
    n = 2000
    column = np.zeros(n, np.int64)
    column[: 2 * MIN_IMAGES - 2] = 1  # cannot have 20 in both halves
    right = column == 0
    right[-200:] = False
    assert discover({"x": (column, ["a", "b"])}, right, np.arange(n)) == []
    column[:400] = 1
    right = column == 0
    groups = np.arange(n)
    groups[:400] %= 2 * MIN_GROUPS - 1
    for seed in range(10):
        assert discover({"x": (column, ["a", "b"])}, right, groups, seed=seed) == []
        assert discover({"x": (column, ["a", "b"])}, right, np.arange(n), seed=seed) != []


def test_images_without_a_value_are_no_slice() -> None:
    column = np.where(np.arange(2000) < 500, -1, np.arange(2000) % 2)
    assert discover({"x": (column, ["a", "b"])}, column >= 0, np.arange(2000)) == []


@pytest.mark.parametrize("n", [0, 1, 2, 30, 100])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_few_images_or_answers_that_are_all_alike_find_nothing(n: int, share: float) -> None:
    codes, _, of = images(1, n=n)
    right = np.arange(n) % 2 < 2 * share
    assert confirmed(discover(codes, right, of)) == []
    assert discover({}, right, of) == []


def test_at_most_ten_are_kept() -> None:
    rng = np.random.default_rng(5)
    columns = rng.integers(0, 2, (30, 20000))
    right = rng.random(20000) < 0.98 - 0.03 * columns.sum(axis=0)
    codes: Codes = {f"c{place}": (column, ["a", "b"]) for place, column in enumerate(columns)}
    assert len(discover(codes, right, np.arange(20000))) == KEPT


def test_the_columns_of_a_table_are_searched() -> None:
    rng = np.random.default_rng(8)
    table = pl.DataFrame({"site": rng.choice(["A", "B", "C", ""], 2000), "age": rng.integers(0, 90, 2000)})
    right = rng.random(2000) < np.where(table["site"].to_numpy() == "B", 0.6, 0.9)
    observed = observe(table, source="recorded")
    [best, *_] = discover(codes_of(observed, 2000), right, np.arange(2000))
    assert (best.conditions, best.confirmed) == ({"site": "B"}, True)
