"""The learning-rate range test, on losses whose best rate is known."""

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from imaging_ft.errors import RunError
from imaging_ft.training.lr_finder import RateSearch, find_rate, write_rate_plot


def valley(rate: float) -> float:
    """Falls from 2 to 1 around a rate of 1e-3, and runs away above 1e-1."""
    return 2 - 1 / (1 + (1e-3 / rate) ** 2) + 50 * max(0.0, math.log10(rate / 1e-1))


def test_the_rates_rise_by_one_factor_over_the_range() -> None:
    seen: list[float] = []
    found = find_rate(lambda rate: seen.append(rate) or 1.0, lowest=1e-5, highest=1e-1, steps=41)
    assert seen == found.rates.tolist()
    assert np.diff(np.log10(found.rates)) == pytest.approx(0.1)
    assert (found.rates[0], found.rates[-1]) == pytest.approx((1e-5, 1e-1))


def test_the_suggestion_is_where_the_loss_falls_fastest() -> None:
    found = find_rate(valley)
    assert found.suggestion == pytest.approx(1e-3, rel=0.35)
    assert found.diverged
    assert found.rates[-1] < 1


def test_noise_moves_the_suggestion_little() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        found = find_rate(lambda rate, rng=rng: valley(rate) + rng.normal(0, 0.08))
        assert found.suggestion is not None
        assert 1e-4 < found.suggestion < 1e-2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_test_and_is_left_out(value: float) -> None:
    found = find_rate(lambda rate: valley(rate) if rate < 0.01 else value)
    assert found.diverged
    assert np.isfinite(found.losses).all()
    assert found.rates[-1] < 0.01
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert find_rate(lambda _: value).suggestion is None


@pytest.mark.parametrize("loss", [lambda _: 1.0, lambda rate: 1 + rate])
def test_a_loss_that_never_falls_suggests_nothing(loss: Callable[[float], float]) -> None:
    found = find_rate(loss)
    assert found.suggestion is None
    assert not found.diverged


def test_noise_alone_suggests_nothing() -> None:
    suggested = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        suggested += find_rate(lambda _, rng=rng: 1 + rng.normal(0, 0.1)).suggestion is not None
    assert suggested <= 4


def test_a_loss_that_runs_away_does_not_reach_back_over_the_curve() -> None:
    found = find_rate(valley)
    before = (found.rates > 0.01) & (found.rates < 0.05)
    assert found.losses.max() > 4
    assert found.smoothed[before] == pytest.approx(found.losses[before], abs=0.25)


def test_one_noisy_first_step_does_not_end_the_test() -> None:
    losses = iter([0.01, *[1.0] * 59])
    assert len(find_rate(lambda _: next(losses)).rates) > 10


def test_a_real_model_is_driven_from_learning_to_running_away() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    inputs = torch.randn(64, 8)
    truth = inputs @ torch.randn(8, 1)

    def step(rate: float) -> float:
        loss = nn.functional.mse_loss(model(inputs), truth)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter -= rate * parameter.grad
        return loss.item()

    found = find_rate(step, lowest=1e-4, highest=10)
    assert found.suggestion is not None
    assert 1e-2 < found.suggestion < 1
    assert found.diverged, "gradient descent on a parabola runs away above 2 / curvature"


def test_the_plot_is_a_picture_also_of_nothing(tmp_path: Path) -> None:
    write_rate_plot(find_rate(valley), tmp_path / "rates.png")
    picture = cv2.imread(str(tmp_path / "rates.png"))
    assert picture is not None
    assert picture.shape == (480, 840, 3)
    empty = np.array([])
    write_rate_plot(RateSearch(empty, empty, empty, None, diverged=True), tmp_path / "none.png")
    with pytest.raises(RunError, match="can't be written"):
        write_rate_plot(find_rate(valley), tmp_path / "missing" / "rates.png")
