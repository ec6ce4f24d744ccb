"""Conditions of light are the physics they name."""

import numpy as np
import pytest

from imaging_ft.augment.conditions import lighting
from imaging_ft.types import FloatImage

pytestmark = pytest.mark.filterwarnings("error")

GAMMA = lighting.DISPLAY_GAMMA


def flat(level: float, *, size: int = 200, channels: int = 1) -> FloatImage:
    return np.full((size, size, channels), level, np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("index", [-2, -6, -10])
@pytest.mark.parametrize("level", [0.1, 0.5])
def test_noise_of_a_lower_dose_is_poisson_and_keeps_the_mean(index: float, level: float) -> None:
    found = lighting.low_dose(flat(level), index, rng()).astype(np.float64)
    variance = level / (1000 * 10 ** (index / 10))
    assert found.var() == pytest.approx(variance, rel=0.04)
    assert found.mean() == pytest.approx(level, abs=4 * np.sqrt(variance / found.size))


def test_noise_of_a_lower_dose_is_independent_from_pixel_to_pixel() -> None:
    found = lighting.low_dose(flat(0.5), -6, rng())[:, :, 0]
    assert abs(np.corrcoef(found[:, :-1].ravel(), found[:, 1:].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(("apply", "value"), [(lighting.low_dose, -6), (lighting.low_light, 3)])
def test_a_gray_image_in_three_channels_gets_one_noise_and_a_colour_image_three(apply, value) -> None:
    gray = apply(flat(0.5, channels=3), value, rng())
    assert np.array_equal(gray[:, :, 0], gray[:, :, 1])
    assert np.array_equal(gray[:, :, 0], gray[:, :, 2])
    assert np.array_equal(gray[:, :, :1], apply(flat(0.5), value, rng()))
    colour = flat(0.5, channels=3) + np.array([0, 0.1, 0.2], np.float32)
    noise = apply(colour, value, rng())
    assert abs(np.corrcoef(noise[:, :, 0].ravel(), noise[:, :, 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("index", [2, 6, 10])
def test_over_exposure_is_linear_until_the_detector_saturates(index: float) -> None:
    gain = 10 ** (index / 10)
    ramp = np.linspace(0, 1, 1001, dtype=np.float32).reshape(1, -1, 1)
    found = lighting.over_exposure(ramp, index, rng())
    below = ramp < 1 / gain
    assert found[below] == pytest.approx(ramp[below] * gain, rel=1e-6)
    assert (found[~below] == 1).all()


@pytest.mark.parametrize("gamma", [0.5, 0.9, 1.25, 3.0])
def test_the_power_law_scales_the_path_length(gamma: float) -> None:
    path = np.linspace(0, 6, 601).reshape(1, -1, 1)
    found = lighting.power(np.exp(-path).astype(np.float32), gamma, rng())
    assert found == pytest.approx(np.exp(-gamma * path), rel=1e-5)


def test_two_shields_are_one_of_the_summed_thickness() -> None:
    image = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, -1, 1)
    twice = lighting.power(lighting.power(image, 1.25, rng()), 1.6, rng())
    assert twice == pytest.approx(lighting.power(image, 2.0, rng()), rel=1e-5)


def test_a_window_off_centre_shifts_every_level_either_way() -> None:
    image = np.linspace(0.3, 0.7, 41, dtype=np.float32).reshape(1, -1, 1)
    shifts = {round(float((lighting.window_shift(image, 0.1, rng(seed)) - image).mean()), 4) for seed in range(12)}
    assert shifts == {0.1, -0.1}


@pytest.mark.parametrize("strength", [0.2, 0.6, 1.0])
def test_a_bias_field_is_smooth_has_mean_1_and_is_one_field_for_all_channels(strength: float) -> None:
    level = 0.01  # far from white, so that nothing is clipped
    found = lighting.bias_field(flat(level, channels=3), strength, rng(3)) / level
    assert found.mean() == pytest.approx(1, abs=1e-4)
    assert found.std() > 0.1 * strength
    assert np.abs(np.diff(found, n=2, axis=0)).max() < 0.02 * found.max()
    assert np.array_equal(found[:, :, 0], found[:, :, 1])


def test_a_bias_field_is_a_product() -> None:
    field = lighting.bias_field(flat(0.01), 0.6, rng(3)) / 0.01
    image = np.random.default_rng(1).uniform(0, 0.05, (200, 200, 1)).astype(np.float32)
    assert lighting.bias_field(image, 0.6, rng(3)) == pytest.approx(image * field, abs=1e-6)


@pytest.mark.parametrize("stops", [1, 3])
def test_less_light_halves_linear_light_a_stop_and_adds_shot_and_read_noise(stops: float) -> None:
    found = lighting.low_light(flat(0.9), stops, rng()).astype(np.float64) ** GAMMA
    light = 0.9**GAMMA / 2**stops
    variance = light / lighting.CAMERA_ELECTRONS + lighting.CAMERA_READ_NOISE**2
    assert found.mean() == pytest.approx(light, abs=4 * np.sqrt(variance / found.size))
    assert found.var() == pytest.approx(variance, rel=0.05)


def test_light_from_behind_moves_middle_and_surround_apart_by_its_stops() -> None:
    stops = 2
    found = lighting.back_light(flat(0.4), stops, rng(1)).astype(np.float64)[:, :, 0]
    gain = np.log2((found / 0.4) ** GAMMA)
    assert gain[100, 100] == pytest.approx(-stops / 2, abs=0.15)
    assert gain[0, 0] == pytest.approx(stops / 2, abs=0.02)
    assert np.abs(gain).max() <= stops / 2 + 1e-4
    assert np.abs(np.diff(gain, axis=1)).max() < 0.1  # a smooth mask


@pytest.mark.parametrize("strength", [0.2, 0.8])
def test_glare_is_a_gaussian_spot_of_the_given_height(strength: float) -> None:
    image = np.zeros((60, 80, 1), np.float32)
    found = lighting.glare(image, strength, rng(4))[:, :, 0]
    y, x = np.unravel_index(int(found.argmax()), found.shape)
    assert found.max() == pytest.approx(strength)
    rows, columns = np.mgrid[0:60, 0:80]
    expected = strength * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 15**2))
    assert found == pytest.approx(expected, abs=1e-4)
