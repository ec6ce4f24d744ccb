"""Sizes, outliers, conditions and the distance from the backbone's domain."""

import numpy as np
import pytest
from scipy.stats import binomtest

from imaging_ft.audit.conditions import bins, cramers_v
from imaging_ft.audit.domain import distance, level
from imaging_ft.audit.features import see
from imaging_ft.audit.measure import measure_image
from imaging_ft.audit.outliers import robust_z
from imaging_ft.audit.sizing import design_effect, images_for, wilson_half_width
from imaging_ft.data import prepare
from imaging_ft.preprocess import InputSpec, conform, to_levels
from imaging_ft.types import silent
from tests.audit.conftest import Planted


@pytest.mark.parametrize("n", [10, 50, 400])
def test_the_half_width_is_that_of_wilsons_interval(n: int) -> None:
    interval = binomtest(round(0.9 * n), n).proportion_ci(0.95, method="wilson")
    assert wilson_half_width(n) == pytest.approx((interval.high - interval.low) / 2)


@pytest.mark.parametrize("half_width", [0.02, 0.05, 0.2])
def test_one_image_fewer_is_too_few(half_width: float) -> None:
    n = images_for(half_width)
    assert wilson_half_width(n) <= half_width < wilson_half_width(n - 1)


def test_groups_inflate_the_variance_by_kishs_design_effect() -> None:
    assert design_effect([1, 1, 1]) == 1
    assert design_effect([3, 3], 0.5) == pytest.approx(2)
    assert design_effect([4, 4], 1.0) == pytest.approx(4)  # then a group counts as one image


def test_the_spread_has_a_floor_where_most_values_are_the_same() -> None:
    z = robust_z(np.array([1.0] * 9 + [1.1]), floor=0.1)
    assert z[:9].tolist() == [0.0] * 9
    assert z[9] == pytest.approx(1)


def test_numbers_are_binned_and_names_are_no_condition() -> None:
    binned = bins([str(value) for value in range(20)] + [""])
    assert binned is not None
    assert len(set(binned)) == 5
    assert binned[-1] == ""
    assert bins([f"p{value}" for value in range(20)]) is None
    assert bins(["a", "b", ""]) == ["a", "b", ""]


def test_cramers_v_is_one_for_a_copy_and_near_nothing_for_chance() -> None:
    rng = np.random.default_rng(0)
    first = rng.choice(["a", "b", "c"], 300).tolist()
    assert cramers_v(first, first) == pytest.approx(1, abs=0.01)
    assert cramers_v(first, rng.choice(["x", "y"], 300).tolist()) < 0.15
    assert cramers_v(["a", "a"], ["x", "y"]) == 0


def test_gray_in_three_channels_and_a_dead_channel_are_told_from_colour() -> None:
    rng = np.random.default_rng(0)
    gray = np.repeat(rng.integers(0, 255, (40, 40, 1), np.uint8), 3, axis=2)
    dead = gray.copy()
    dead[:, :, 1] = 0
    results = [measure_image(image, InputSpec(channels=3)) for image in (gray, dead)]
    assert [row[4] for row in results] == [False, True]
    assert [row[6] for row in results] == [0, 1]


def test_the_window_comes_before_brightness_and_16_bits_keep_their_range() -> None:
    image = np.full((40, 40, 1), 2000, np.uint16)
    image[:20] = 1000
    row = measure_image(image, InputSpec(channels=1, dtype="uint16", window=(1000, 2000)))
    assert row[1] == pytest.approx(0.5)
    assert row[8] == pytest.approx(2000 / 65535)


@pytest.mark.parametrize("window", [None, (0, 4095)])
def test_an_image_of_another_depth_is_measured_as_training_sees_it(window: tuple[int, int] | None) -> None:
    image = np.full((40, 40, 1), 40, np.uint8)
    spec = InputSpec(channels=1, dtype="uint16", window=window)
    assert measure_image(image, spec)[1] == pytest.approx(to_levels(conform(image, spec), spec).mean() / 255)


def test_the_distance_is_nothing_on_the_backbones_own_statistics_and_one_a_deviation_away(planted: Planted) -> None:
    seen = see(prepare(str(planted.manifest)), silent)
    value, stages = distance(seen.moments)
    assert 0.3 < value < 1.5
    assert next(iter(stages)) == "stem"
    own = [type(m)(m.layer, m.stored_mean, m.stored_std, m.stored_mean, m.stored_std) for m in seen.moments]
    assert distance(own)[0] == 0
    shifted = [type(m)(m.layer, m.stored_mean + m.stored_std, m.stored_std, m.stored_mean, m.stored_std) for m in own]
    assert distance(shifted)[0] == pytest.approx(1)
    assert [level(v) for v in (0.25, 0.4, 0.77)] == ["near", "middle", "far"]


def test_margins_are_shares_of_the_picture_and_noise_is_none() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 8, (100, 200, 1), np.uint8)
    image[10:80, 50:180] = 200
    assert measure_image(image, InputSpec(channels=1))[11] == pytest.approx((0.1, 0.2, 0.25, 0.1))
    assert measure_image(np.full((40, 40, 1), 9, np.uint8), InputSpec(channels=1))[11] == (0.5, 0.5, 0.5, 0.5)
