"""Conditions of MR and CT slices are the physics they name."""

import numpy as np
import pytest

from imaging_ft.augment.conditions import scanner
from imaging_ft.types import FloatImage

pytestmark = pytest.mark.filterwarnings("error")


def flat(level: float, *, channels: int = 1) -> FloatImage:
    return np.full((200, 200, channels), level, np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_without_signal_rician_noise_is_rayleighs_and_with_it_is_normal() -> None:
    background = scanner.rician_noise(flat(0), 0.1, rng())
    assert background.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.02)
    assert background.std() == pytest.approx(0.1 * np.sqrt(2 - np.pi / 2), rel=0.02)
    tissue = scanner.rician_noise(flat(0.5), 0.02, rng())
    assert tissue.mean() == pytest.approx(np.sqrt(0.25 + 0.02**2), abs=1e-3)
    assert tissue.std() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize(("apply", "value"), [(scanner.rician_noise, 0.1), (scanner.dose_noise, 0.1)])
def test_a_gray_image_in_three_channels_gets_one_noise(apply, value: float) -> None:
    noise = apply(flat(0.5, channels=3), value, rng())
    assert np.ptp(noise, axis=2).max() == 0


def test_what_k_space_does_not_hold_is_gone_and_the_rest_stays() -> None:
    x = np.arange(200)
    slow, fast = np.sin(2 * np.pi * 10 * x / 200), np.sin(2 * np.pi * 60 * x / 200)
    image = (0.5 + 0.2 * slow + 0.2 * fast)[np.newaxis, :, np.newaxis].repeat(200, axis=0).astype(np.float32)
    found = scanner.gibbs(image, 0.5, rng())[0, :, 0]  # up to 50 of 100 waves are left
    assert found == pytest.approx(0.5 + 0.2 * slow, abs=1e-4)
    assert scanner.gibbs(image, 0.3, rng()) == pytest.approx(image, abs=1e-4)  # 70 are
    edge = np.zeros((200, 200, 1), np.float32)
    edge[:, 60:140] = 0.5
    assert 0.5 * 1.05 < scanner.gibbs(edge, 0.5, rng()).max() < 0.5 * 1.1  # Gibbs's overshoot: 9%, between pixels


@pytest.mark.parametrize("seed", range(5))
def test_a_spike_is_one_plane_wave(seed: int) -> None:
    wave = scanner.spike(flat(0.5), 0.1, rng(seed))[:, :, 0] - 0.5
    assert wave.max() == pytest.approx(0.1, abs=2e-3)
    assert wave.std() == pytest.approx(0.1 / np.sqrt(2), rel=0.1)
    y, x = np.unravel_index(np.abs(np.fft.fft2(wave)).argmax(), wave.shape)
    assert 4 <= np.hypot(min(x, 200 - x), min(y, 200 - y)) <= 31


def test_ghosts_are_shifted_copies_that_wrap_around() -> None:
    image = np.zeros((100, 100, 1), np.float32)
    image[50, 50] = 0.8
    for seed in range(6):
        found = scanner.motion_ghost(image, 0.4, rng(seed))
        assert found.sum() == pytest.approx(0.8, rel=1e-5)
        assert found[50, 50, 0] == pytest.approx(0.8 * 0.6)
        ghosts = np.argwhere(np.isclose(found[:, :, 0], 0.8 * 0.2)) - 50
        assert len(ghosts) == 2
        assert (ghosts.sum(axis=0) == 0).all()
        assert 10 <= np.abs(ghosts).max() <= 40
        assert np.abs(ghosts).min() == 0


def test_windows_of_ct_are_in_hounsfield_units_of_400() -> None:
    found = {float(scanner.window_centre(flat(0.5), 40, rng(seed)).mean()) for seed in range(9)}
    assert sorted(found) == pytest.approx([0.4, 0.6])


def test_a_window_of_another_width_turns_contrast_about_the_middle() -> None:
    ramp = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, -1, 1)
    found = {scanner.window_width(ramp, 1.0, rng(seed)).tobytes() for seed in range(9)}
    expected = {np.clip(0.5 + (ramp - 0.5) * np.float32(slope), 0, 1).tobytes() for slope in (0.5, 2)}
    assert found == expected


@pytest.mark.parametrize("dose", [0.5, 0.1])
def test_noise_of_ct_goes_with_one_over_the_root_of_the_dose_and_has_no_low_frequencies(dose: float) -> None:
    noise = scanner.dose_noise(flat(0.5), dose, rng())[:, :, 0] - 0.5
    assert noise.std() == pytest.approx(10 / 400 * np.sqrt(1 / dose - 1), rel=0.03)
    means = noise.reshape(5, 40, 5, 40).mean(axis=(1, 3))
    assert means.std() < 0.5 * noise.std() / 40  # of white noise it would be a fortieth
    assert scanner.dose_noise(flat(0.5), 1.0, rng()) == pytest.approx(0.5)
