"""Intervals of shares, means and differences: closed forms, what groups do to them, and their bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t

from imaging_ft.report.intervals import (
    CONFIDENCE,
    Spread,
    bounded,
    correlation,
    difference_of,
    mean_of,
    paired_share,
    proportion,
    quantile,
    score,
    tango,
    wilson,
)

Z = 1.959963984540054


def closed_form(right: int, n: int) -> tuple[float, float]:
    """Wilson 1927, equation by equation."""
    share = right / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return centre - half, centre + half


@pytest.mark.parametrize(("right", "n"), [(1, 2), (0, 10), (10, 10), (45, 50), (90, 100), (360, 400), (1, 700)])
def test_wilson_is_the_closed_form_and_scipys(right: int, n: int) -> None:
    found = wilson(right, n)
    assert found.value == right / n
    assert (found.low, found.high) == pytest.approx(closed_form(right, n), abs=1e-12)
    theirs = binomtest(right, n).proportion_ci(CONFIDENCE, method="wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.method == "wilson"


def test_wilson_is_symmetric_and_narrows_with_n() -> None:
    assert wilson(30, 40).low == pytest.approx(1 - wilson(10, 40).high)
    widths = [wilson(9 * k, 10 * k).high - wilson(9 * k, 10 * k).low for k in (1, 5, 20, 40)]
    assert widths == sorted(widths, reverse=True)
    assert widths[1:] == pytest.approx([2 * 0.085, 2 * 0.042, 2 * 0.03], abs=0.01)  # n = 50, 200, 400


def test_quantiles_are_of_95_percent() -> None:
    assert CONFIDENCE == 0.95
    assert quantile() == pytest.approx(norm.ppf(0.975), abs=1e-12)
    assert quantile(7.5) == pytest.approx(t.ppf(0.975, 7.5), abs=1e-9)
    assert quantile(0) == np.inf


def test_one_image_a_group_gives_wilsons_interval() -> None:
    hits = np.repeat([1.0, 0.0], [37, 13])
    found, moves = proportion(hits, np.ones(50))
    assert found == wilson(37, 50)
    assert moves == pytest.approx((hits - 0.74) / 50)


def test_groups_that_hang_together_entirely_are_worth_one_image_each() -> None:
    hits = np.repeat([10.0, 0.0], [80, 20])
    found, _ = proportion(hits, np.full(100, 10.0))
    assert found.method == "wilson_by_group"
    assert (found.low, found.high) == pytest.approx(score(0.8, 100 * 99 / 100, quantile(99)), abs=1e-3)


def test_images_that_are_independent_within_groups_lose_little() -> None:
    rng = np.random.default_rng(0)
    widths: list[float] = []
    for _ in range(200):
        found, _ = proportion(rng.binomial(10, 0.8, 100).astype(float), np.full(100, 10.0))
        widths.append(found.high - found.low)
    alone = wilson(800, 1000)
    assert float(np.mean(widths)) == pytest.approx(alone.high - alone.low, rel=0.08)


def test_where_all_are_right_the_groups_are_what_counts() -> None:
    found, _ = proportion(np.full(30, 10.0), np.full(30, 10.0))
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(score(1.0, 30, quantile(29))[0])
    uneven, _ = proportion(np.array([291.0, *[1.0] * 9]), np.array([291.0, *[1.0] * 9]))
    assert uneven.low < 0.1  # nearly all come from one group


def test_what_one_failing_group_says_of_how_groups_hang_together_is_not_trusted_alone() -> None:
    sizes = np.array([4.0, *[10.0] * 28, 16.0])
    hits = sizes - np.array([*[0.0] * 29, 3.0])
    found, _ = proportion(hits, sizes)
    share = 297 / 300
    variance = sum(((hit - share * size) / 300) ** 2 / (1 - size / 300) for hit, size in zip(hits, sizes, strict=True))
    seen, entirely = variance * 300 / (share * (1 - share)), float((sizes**2).sum()) / 300
    assert seen < 4 < entirely
    design = (seen + entirely / 3) / (1 + 1 / 3)
    expected = score(share, 300 / design, quantile(300 / entirely - 1))
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)


def test_of_one_group_nothing_is_known() -> None:
    found, _ = proportion(np.array([7.0]), np.array([10.0]))
    assert (found.value, found.low, found.high) == (0.7, 0, 1)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=30).filter(
        lambda units: sum(max(unit) for unit in units) > 0
    )
)
def test_a_share_lies_in_its_interval_and_wrong_is_the_mirror_of_right(units: list[tuple[int, int]]) -> None:
    hits = np.array([float(min(unit)) for unit in units])
    sizes = np.array([float(max(unit)) for unit in units])
    found, moves = proportion(hits, sizes)
    wrong, _ = proportion(sizes - hits, sizes)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    assert (wrong.low, wrong.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)
    assert float(moves.sum()) == pytest.approx(0, abs=1e-12)
    again, _ = proportion(np.append(hits, 0.0), np.append(sizes, 0.0))  # a group without such images changes nothing
    assert (again.low, again.high) == pytest.approx((found.low, found.high), abs=1e-12)


@pytest.mark.parametrize(
    ("counts", "shares"),
    [
        ((200, 200, 200, 200), (0.95, 0.9, 0.8, 0.7)),
        ((40, 40), (0.9, 0.7)),
        ((20, 60, 200), (0.8, 0.9, 0.95)),
        ((15, 15, 15, 15), (0.9, 0.85, 0.95, 0.6)),
    ],
)
def test_the_interval_of_a_mean_covers_as_often_as_it_says(counts: tuple[int, ...], shares: tuple[float, ...]) -> None:
    rng = np.random.default_rng(11)
    known = [[wilson(right, n) for right in range(n + 1)] for n in counts]
    truth = float(np.mean(shares))
    trials = 3000
    draws = np.stack([rng.binomial(n, share, trials) for n, share in zip(counts, shares, strict=True)], axis=1)
    hits = 0
    for row in draws.tolist():
        found = mean_of([estimates[right] for estimates, right in zip(known, row, strict=True)])
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / trials <= 0.985


def test_the_mean_of_one_proportion_is_that_proportion_and_limits_stay_within_0_and_1() -> None:
    one = wilson(9, 10)
    found = mean_of([one])
    assert (found.value, found.low, found.high) == pytest.approx((one.value, one.low, one.high))
    assert found.method == "mover"
    perfect = mean_of([wilson(10, 10), wilson(10, 10)])
    assert perfect.value == perfect.high == 1
    assert 0 < perfect.low < 1


def test_the_mean_of_equal_parts_is_narrower_by_the_root_of_their_number_unless_they_vary_together() -> None:
    one = wilson(50, 100)
    four = mean_of([one] * 4)
    assert four.value - four.low == pytest.approx((one.value - one.low) / 2)
    same = mean_of([one] * 4, correlation=np.ones((4, 4)))
    assert (same.low, same.high) == pytest.approx((one.low, one.high))


def test_a_mean_of_grouped_shares_says_so() -> None:
    grouped, _ = proportion(np.array([2.0, 1.0, 2.0]), np.full(3, 2.0))
    assert mean_of([wilson(9, 10), grouped]).method == "mover_by_group"


def test_parts_that_nothing_moves_are_taken_to_vary_with_all_that_share_their_groups() -> None:
    moves = np.array([[0.1, -0.1, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.05, -0.05, 0.0, 0.0]])
    present = [np.array(units) > 0 for units in ([1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 0, 0])]
    assert correlation(list(moves), present) == pytest.approx(np.ones((3, 3)))
    present[1] = np.array([0, 0, 1, 1]) > 0
    assert correlation(list(moves), present)[1].tolist() == [0, 1, 0]


def test_a_difference_of_independent_shares_is_newcombes_method_10() -> None:
    """Newcombe 1998 (Statistics in Medicine 17:873), table II: 56/70 less 48/80 is .2, from .0524 to .3339."""
    found = difference_of(wilson(56, 70), wilson(48, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_a_difference_of_what_varies_together_is_known_better() -> None:
    one, two = wilson(80, 100), wilson(70, 100)
    apart, together = difference_of(one, two), difference_of(one, two, correlation=0.8)
    assert together.high - together.low < 0.6 * (apart.high - apart.low)
    assert apart.low >= -1


@pytest.mark.parametrize(("b", "c", "n"), [(1, 0, 14), (12, 2, 44), (40, 35, 300)])
def test_tangos_interval_solves_his_equation(b: int, c: int, n: int) -> None:
    low, high = tango(b, c, n, Z)

    def statistic(delta: float) -> float:
        """Tango 1998, eq. 6 and 7."""
        a2, a1, a0 = 2 * n, -b - c + (2 * n - b + c) * delta, -c * delta * (1 - delta)
        q21 = (np.sqrt(a1**2 - 4 * a2 * a0) - a1) / (2 * a2)
        return float((b - c - n * delta) / np.sqrt(n * (2 * q21 + delta * (1 - delta))))

    assert statistic(low) == pytest.approx(Z, abs=1e-6)
    assert statistic(high) == pytest.approx(-Z, abs=1e-6)
    assert low < (b - c) / n < high


def test_pairs_that_never_differ_still_leave_doubt() -> None:
    assert tango(0, 0, 30, Z) == pytest.approx((-(Z**2) / (30 + Z**2), Z**2 / (30 + Z**2)), abs=1e-9)


def test_tangos_interval_ends_at_the_scales_ends() -> None:
    assert tango(20, 0, 20, Z)[1] == 1
    assert tango(0, 20, 20, Z)[0] == -1
    assert tango(1, 1, 20, np.inf) == (-1, 1)
    low, high = tango(3, 7, 50, Z)
    mirrored = tango(7, 3, 50, Z)
    assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]), abs=1e-9)


def test_pairs_in_groups_have_a_wider_difference_unless_groups_are_single() -> None:
    better, worse = np.repeat([1.0, 0.0], [20, 80]), np.repeat([0.0, 1.0, 0.0], [20, 5, 75])
    alone, _, z = paired_share(better, worse, np.ones(100))
    assert (alone.low, alone.high) == pytest.approx(tango(20, 5, 100, Z))
    assert z == pytest.approx(15 / 5)
    grouped, _, smaller = paired_share(
        better.reshape(20, 5).sum(axis=1), worse.reshape(20, 5).sum(axis=1), np.full(20, 5.0)
    )
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    assert smaller < z


def test_a_bounded_metric_stays_within_its_bounds_however_little_is_known() -> None:
    for value in (0.0, 0.01, 0.5, 1.99, 2.0):
        for spread in (Spread(0.0, 12), Spread(0.5, 12), Spread(0.5, 1.0, 0.0, 1.0), Spread(0.1, 12, 11, 3.0)):
            found = bounded(value, spread, top=2.0, method="jackknife")
            assert 0 <= found.low <= value <= found.high <= 2
            assert found.high > found.low
    assert bounded(0.5, Spread(0.5, 1.0, 0.0, 1.0), method="delong_by_group").high == 1


def test_without_variation_a_perfect_metric_is_as_sure_as_its_units_are_many() -> None:
    assert bounded(1.0, Spread(0.0, 40), method="delong").low == pytest.approx(wilson(40, 40).low)
