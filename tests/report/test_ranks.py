"""AUROC and average precision: agreement with independent implementations, groups, ties and bins."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from imaging_ft.bundle import Said
from imaging_ft.report.intervals import quantile
from imaging_ft.report.ranks import COARSE, Levels, Ranking, coarse, levels
from imaging_ft.report.result import Estimate
from imaging_ft.report.scored import Units
from imaging_ft.types import Ints

Scores = npt.NDArray[np.float64]


def ranking(scores: npt.ArrayLike, shown: npt.ArrayLike, groups: Ints | None = None) -> Ranking:
    truth = np.asarray(shown, dtype=np.bool_)
    units = Units(None, len(truth)) if groups is None else Units.of(groups)
    return Ranking(levels(np.asarray(scores, dtype=np.float64)), truth, units)


def sample(seed: int, *, n: int = 200, ties: bool = False) -> tuple[Scores, Said]:
    rng = np.random.default_rng(seed)
    shown = rng.random(n) < 0.3
    scores = 1 / (1 + np.exp(-(1.2 * shown + rng.standard_normal(n))))
    return (np.round(scores, 1) if ties else scores), shown


def half_width(found: Estimate) -> float:
    """Return the standard error times the quantile, on the logit scale."""
    return float(np.log(found.high / (1 - found.high)) - np.log(found.value / (1 - found.value)))


def naive_components(scores: Scores, shown: Said) -> tuple[Scores, Scores]:
    """DeLong et al. 1988, eq. 4 to 6: every positive beside every negative."""
    psi = (scores[shown][:, None] > scores[~shown][None, :]) + 0.5 * (scores[shown][:, None] == scores[~shown][None, :])
    return psi.mean(axis=1), psi.mean(axis=0)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_auroc_and_average_precision_are_scikit_learns(seed: int, ties: bool) -> None:
    scores, shown = sample(seed, ties=ties)
    found = ranking(scores, shown)
    assert found.auroc().value == pytest.approx(roc_auc_score(shown, scores), abs=1e-9)
    assert found.average_precision().value == pytest.approx(average_precision_score(shown, scores), abs=1e-9)


@pytest.mark.parametrize("ties", [False, True])
def test_the_variance_is_delongs(ties: bool) -> None:
    scores, shown = sample(7, ties=ties)
    v10, v01 = naive_components(scores, shown)
    variance = v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01)
    found = ranking(scores, shown).auroc()
    expected = quantile() * np.sqrt(variance) / (found.value * (1 - found.value))
    assert found.method == "delong"
    assert half_width(found) == pytest.approx(expected, abs=1e-9)


def test_a_group_for_every_image_gives_nearly_delongs_interval_and_pairs_of_twins_that_of_half_as_many() -> None:
    scores, shown = sample(8, n=400)
    alone = ranking(scores, shown).auroc()
    twins = ranking(np.repeat(scores, 2), np.repeat(shown, 2), np.repeat(np.arange(400), 2)).auroc()
    assert twins.method == "delong_by_group"
    assert (twins.low, twins.high) == pytest.approx((alone.low, alone.high), abs=0.004)
    blind = ranking(np.repeat(scores, 2), np.repeat(shown, 2)).auroc()
    assert blind.high - blind.low < 0.75 * (twins.high - twins.low)


def test_the_grouped_interval_is_obuchowskis_with_leverage_and_satterthwaites_degrees() -> None:
    """From every positive beside every negative, group by group."""
    rng = np.random.default_rng(14)
    groups = np.sort(rng.integers(0, 25, 200))
    shown = rng.random(200) < 0.2 + 0.4 * (groups % 2)
    scores = 1 / (1 + np.exp(-(shown + rng.standard_normal(25)[groups] + rng.standard_normal(200))))
    area = float(roc_auc_score(shown, scores))
    moves, parts, carriers = np.zeros(25), list[float](), list[float]()
    for side, components in zip((shown, ~shown), naive_components(scores, shown), strict=True):
        share = np.array([(side & (groups == g)).sum() for g in range(25)]) / side.sum()
        sums = np.array([(components - area)[groups[side] == g].sum() for g in range(25)]) / side.sum()
        moves += sums / np.sqrt(1 - share)
        parts.append(float((sums**2).sum()))
        carriers.append(float(1 / (share**2).sum()))
    df = sum(parts) ** 2 / sum(part**2 / (many - 1) for part, many in zip(parts, carriers, strict=True))
    carried = float((moves**2).sum() ** 2 / (moves**4).sum())
    widest = area * (1 - area) / min(carriers)
    variance = (carried * float((moves**2).sum()) + 0.1 * widest) / (carried + 0.1)
    found = ranking(scores, shown, groups).auroc()
    assert half_width(found) == pytest.approx(quantile(df) * np.sqrt(variance) / (area * (1 - area)), abs=1e-9)


def moved(scores: Scores, shown: Said, weights: Scores, metric: str) -> float:
    if metric == "auroc":
        return float(roc_auc_score(shown, scores, sample_weight=weights))
    return float(average_precision_score(shown, scores, sample_weight=weights))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("metric", ["auroc", "auprc"])
def test_moves_are_what_a_little_more_of_each_image_changes(metric: str, ties: bool) -> None:
    """The variance with every two images a group, from finite differences of scikit-learn's weighted metric."""
    scores, shown = sample(9, n=60, ties=ties)
    groups = np.arange(60) // 2
    moves = np.zeros(60)
    for index in range(60):
        step = np.zeros(60)
        step[index] = 1e-5
        moves[index] = (moved(scores, shown, 1 + step, metric) - moved(scores, shown, 1 - step, metric)) / 2e-5
    by_group = np.bincount(groups, moves)
    found = ranking(scores, shown, groups)
    if metric == "auprc":
        squares = by_group**2
        carried = squares.sum() ** 2 / (squares**2).sum()
        estimate, variance = found.average_precision(), squares.sum() * 30 / 29
        per_group = np.bincount(groups, shown)
        units, df = per_group.sum() ** 2 / (per_group**2).sum(), 29.0
        worst = estimate.value * (1 - estimate.value) / units
        variance = (carried * variance + 0.1 * worst) / (carried + 0.1)
        expected = quantile(df) * np.sqrt(variance) / (estimate.value * (1 - estimate.value))
        assert half_width(estimate) == pytest.approx(expected, rel=1e-5)
        return
    v10, v01 = naive_components(scores, shown)
    analytic = np.zeros(60)
    analytic[shown] = (v10 - v10.mean()) / shown.sum()
    analytic[~shown] = (v01 - v01.mean()) / (~shown).sum()
    assert moves == pytest.approx(analytic, abs=1e-8)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.integers(0, 5)), min_size=4, max_size=40).filter(
        lambda rows: len({shown for _, shown, _ in rows}) == 2
    )
)
def test_areas_agree_with_scikit_learn_and_lie_in_their_intervals(rows: list[tuple[int, bool, int]]) -> None:
    scores = np.array([score / 8 for score, _, _ in rows])
    shown = np.array([shown for _, shown, _ in rows])
    groups = np.array([group for _, _, group in rows])
    for found in (ranking(scores, shown), ranking(scores, shown, groups)):
        area, precision = found.auroc(), found.average_precision()
        assert area.value == pytest.approx(roc_auc_score(shown, scores), abs=1e-9)
        assert precision.value == pytest.approx(average_precision_score(shown, scores), abs=1e-9)
        for estimate in (area, precision):
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_perfect_ranking_is_only_as_sure_as_its_rarer_side_is_large() -> None:
    shown = np.repeat([True, False], [20, 500])
    found = ranking(shown * 0.8 + 0.1, shown).auroc()
    assert (found.value, found.high) == (1, 1)
    assert 0.8 < found.low < 0.87  # Wilson's limit for 20 of 20
    one = ranking(shown * 0.8 + 0.1, shown, np.repeat([0, 1], [20, 500])).auroc()
    assert (one.low, one.high) == (0, 1)


def test_a_single_positive_leaves_a_wide_interval() -> None:
    scores = np.append(np.linspace(0, 0.8, 99), 0.7)
    found = ranking(scores, np.arange(100) == 99).auroc()
    assert found.high - found.low > 0.6


def test_turning_the_question_round_turns_the_auroc_round() -> None:
    scores, shown = sample(10)
    one, other = ranking(scores, shown).auroc(), ranking(1 - scores, ~shown).auroc()
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=50))
def test_coarse_levels_keep_the_order_and_are_as_fine_near_1_as_near_0(values: list[float]) -> None:
    scores = np.sort(np.array(values, dtype=np.float32))
    of = coarse(scores)
    assert (np.diff(of) >= 0).all()
    assert of.min() >= 0
    assert of.max() < COARSE
    distance = np.minimum(scores[:-1], 1 - scores[1:])
    apart = np.diff(scores) > 2**-11 * np.maximum(distance, 2**-20) + 2**-24
    assert (np.diff(of)[apart] > 0).all()


def test_an_auroc_on_coarse_levels_is_off_by_no_more_than_its_bound() -> None:
    rng = np.random.default_rng(12)
    shown = rng.random(40_000) < 0.2
    for spread in (0.001, 1.0, 6.0):  # nearly equal scores, usual ones, and ones that crowd at 0 and 1
        scores = (1 / (1 + np.exp(-spread * (shown + rng.standard_normal(40_000))))).astype(np.float32)
        binned = Ranking(Levels(coarse(scores), COARSE), shown, Units(None, 40_000))
        exact = roc_auc_score(shown, scores)
        assert abs(binned.auroc().value - exact) <= binned.error + 1e-12
        if spread > 0.01:
            assert binned.error < 2e-4
            assert binned.average_precision().value == pytest.approx(average_precision_score(shown, scores), abs=1e-3)
            exactly = Ranking(levels(scores), shown, Units(None, 40_000)).auroc()
            assert binned.auroc().low == pytest.approx(exactly.low, abs=2e-4)


def test_above_a_number_of_rows_levels_are_coarse_unless_that_would_matter() -> None:
    scores, shown = sample(13)
    units = Units(None, len(scores))
    assert Ranking.of(scores, shown, units, exact_up_to=100).levels.count == COARSE
    assert Ranking.of(scores, shown, units).levels.count == len(scores)
    crowded = 0.5 + scores / 10_000
    found = Ranking.of(crowded, shown, units, exact_up_to=100)
    assert found.levels.count == len(scores)
    assert found.auroc().value == pytest.approx(roc_auc_score(shown, scores), abs=1e-9)
