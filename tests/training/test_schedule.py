"""Rates and stages by step: shapes, and that they depend on the step alone."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging_ft.training.schedule import ONE_CYCLE_START, WARMUP, Annealing, rate, unfrozen
from imaging_ft.types import STAGES

KINDS = st.sampled_from(sorted(WARMUP))
LENGTHS = st.integers(1, 400)
SHARES = st.floats(0, 0.99)


def curve(kind: Annealing, steps: int, warmup: float | None) -> list[float]:
    return [rate(step, steps, kind=kind, warmup=warmup) for step in range(steps)]


@given(KINDS, LENGTHS, SHARES)
def test_a_rate_is_a_share_of_the_peak_and_reaches_it_exactly(kind: Annealing, steps: int, warmup: float) -> None:
    rates = curve(kind, steps, warmup)
    assert all(0 < value <= 1 for value in rates)
    assert max(rates) == 1


@given(KINDS, LENGTHS, SHARES)
def test_a_rate_rises_once_and_then_falls(kind: Annealing, steps: int, warmup: float) -> None:
    rates = curve(kind, steps, warmup)
    peak = rates.index(1)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert peak == max(0, round(steps * warmup) - 1)


@given(KINDS, LENGTHS, SHARES)
def test_a_rate_never_jumps(kind: Annealing, steps: int, warmup: float) -> None:
    rates = curve(kind, steps, warmup)
    rising = round(steps * warmup)
    steepest = math.pi / 2 / max(1, min(rising or steps, max(1, steps - rising)))
    assert all(abs(after - before) <= steepest + 1e-9 for before, after in pairwise(rates))


@given(KINDS, st.integers(20, 400), SHARES)
def test_a_rate_would_be_zero_in_the_step_after_the_last(kind: Annealing, steps: int, warmup: float) -> None:
    after = rate(steps, steps, kind=kind, warmup=warmup)
    assert after == (1 if kind == "constant" else pytest.approx(0, abs=1e-12))
    assert rate(steps + 5, steps, kind=kind, warmup=warmup) == after


def test_each_kind_has_its_shape() -> None:
    assert curve("constant", 10, 0.2) == [0.5, *[1] * 9]
    assert curve("linear", 10, 0.2) == pytest.approx([0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert rate(6, 10, kind="cosine", warmup=0.2) == pytest.approx(0.5)
    assert rate(60, 100, kind="one_cycle", warmup=0.2) == pytest.approx(0.5)
    middle = rate(9, 100, kind="one_cycle", warmup=0.2)
    assert middle == pytest.approx((1 + ONE_CYCLE_START) / 2)
    assert ONE_CYCLE_START <= rate(0, 1000, kind="one_cycle", warmup=0.5) < ONE_CYCLE_START + 0.001


@pytest.mark.parametrize("kind", WARMUP)
def test_without_a_warm_up_each_kind_has_its_own(kind: Annealing) -> None:
    assert curve(kind, 50, None) == curve(kind, 50, WARMUP[kind])
    assert curve("one_cycle", 50, None).index(1) == 14


@given(st.floats(0, 1))
def test_without_gradual_unfreezing_all_stages_train(progress: float) -> None:
    assert unfrozen(progress, 0) == STAGES


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1))
def test_stages_join_from_the_head_down_and_never_leave(one: float, other: float, share: float) -> None:
    early, late = (unfrozen(progress, share) for progress in sorted((one, other)))
    assert set(early) <= set(late)
    assert STAGES[-len(early) :] == early
    assert late[-1] == "head"


def test_stages_join_at_even_distances_until_the_share_is_over() -> None:
    counts = [len(unfrozen(progress / 100, 0.5)) for progress in range(101)]
    assert counts == [*[1] * 10, *[2] * 10, *[3] * 10, *[4] * 10, *[5] * 10, *[6] * 51]
    assert unfrozen(0, 0.5) == ("head",)
    assert unfrozen(0.2, 0.5) == ("stage3", "stage4", "head")
