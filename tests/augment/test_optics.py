"""Conditions of microscopes, endoscopes, fundus cameras and ultrasound are what they say."""

import numpy as np
import pytest

from imaging_ft.augment.conditions import optics, ultrasound
from imaging_ft.types import FloatImage

pytestmark = pytest.mark.filterwarnings("error")


def flat(level: float, *, channels: int = 1, size: int = 224) -> FloatImage:
    return np.full((size, size, channels), level, np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("size", "reach"), [(224, 6.0), (448, 3.0), (224, 0.3)])
def test_out_of_focus_a_point_is_an_even_disc_that_grows_with_the_image(size: int, reach: float) -> None:
    point = flat(0.0, size=size)
    point[size // 2, size // 2] = 1
    found = optics.defocus(point, reach, rng())[:, :, 0]
    y, x = np.mgrid[:size, :size] - size // 2
    assert found.sum() == pytest.approx(1, rel=1e-4)
    # The mean square radius of a disc is r²/2; bilinear interpolation adds to it where the disc is small.
    spread = float((found * (x**2 + y**2)).sum())
    pixels = reach * size / 224
    assert spread == pytest.approx(pixels**2 / 2, rel=0.08) if pixels > 1 else 0 < spread < 0.6


def test_light_falls_with_the_fourth_power_of_the_cosine() -> None:
    found = optics.vignette(flat(0.8), 45, rng())[:, :, 0]
    assert found[112, 112] == pytest.approx(0.8, rel=1e-3)
    assert np.power(found[0, 0] / 0.8, 2.2) == pytest.approx(np.cos(np.radians(45)) ** 4, rel=0.02)
    half = np.arctan(0.5)  # halfway to the corner, the tangent is half of 1
    assert np.power(found[56, 56] / 0.8, 2.2) == pytest.approx(np.cos(half) ** 4, rel=0.02)


def test_light_from_one_side_is_linear_and_keeps_the_mean() -> None:
    for seed in range(6):
        gain = optics.illumination_gradient(flat(0.5), 0.4, rng(seed))[:, :, 0] / 0.5
        assert gain.mean() == pytest.approx(1, abs=1e-3)
        assert gain.max() == pytest.approx(1.4, abs=0.01)
        assert np.abs(np.diff(gain, 2, axis=0)).max() < 1e-5


def test_a_veil_takes_contrast_and_spares_what_lies_outside_a_round_field() -> None:
    y, x = np.mgrid[:224, :224] - 111.5
    eye = np.where(np.hypot(x, y) < 100, 0.4, 0).astype(np.float32)[:, :, np.newaxis]
    eye[100:120, 100:120] = 0  # a dark spot inside the field is veiled as well
    found = optics.haze(eye, 0.5, rng())
    assert found[50, 112, 0] == pytest.approx(0.5 * 0.4 + 0.5 * 0.8)
    assert found[110, 110, 0] == pytest.approx(0.5 * 0.8)
    assert found[:10, :10].max() == 0


@pytest.mark.parametrize("share", [0.01, 0.06])
def test_reflections_cover_their_share_in_white(share: float) -> None:
    covered = [(optics.specular(flat(0.2), share, rng(seed)) > 0.6).mean() for seed in range(20)]
    assert np.mean(covered) == pytest.approx(share, rel=0.25)


def test_bubbles_have_a_dark_rim_and_leave_the_rest() -> None:
    for seed in range(6):
        found = optics.bubble(flat(0.6), 0.1, rng(seed))
        assert found.min() < 0.25
        assert np.isclose(found, 0.6, atol=1e-3).mean() > 0.7


def test_a_round_field_is_black_beyond_its_radius() -> None:
    found = optics.black_corner(flat(0.5), 0.3, rng())[:, :, 0]
    y, x = np.mgrid[:224, :224] - 111.5
    away = np.hypot(x, y) / np.hypot(112, 112)
    assert (found[away > 0.71] == 0).all()
    assert (found[away < 0.69] == 0.5).all()


def test_a_stain_varies_in_density_along_its_own_colours() -> None:
    vectors = optics.HED / np.linalg.norm(optics.HED, axis=1, keepdims=True)
    section = np.exp(-0.6 * vectors[0]).astype(np.float32).reshape(1, 1, 3).repeat(8, axis=0).repeat(8, axis=1)
    found = [optics.stain(section, 0.2, rng(seed))[0, 0] for seed in range(200)]
    amounts = np.array([-np.log(colour) @ np.linalg.inv(vectors) for colour in found])
    # Haematoxylin: 0.6 times 1 ± 0.2, and ± 0.1; the others: ± 0.1 alone.
    assert amounts[:, 0].min() > 0.6 * 0.8 - 0.1 - 1e-3
    assert amounts[:, 0].max() < 0.6 * 1.2 + 0.1 + 1e-3
    assert np.abs(amounts[:, 1:]).max() < 0.1 + 1e-2
    assert amounts[:, 0].std() > amounts[:, 1].std() * 1.2


def test_speckle_goes_with_the_signal() -> None:
    deviations = [ultrasound.speckle(flat(level), 0.15, rng())[:, :, 0].std() / level for level in (0.2, 0.4)]
    assert deviations == pytest.approx([0.15, 0.15], rel=0.05)
    assert np.ptp(ultrasound.speckle(flat(0.4, channels=3), 0.15, rng()), axis=2).max() == 0


def test_gain_over_depth_changes_from_top_to_bottom_alone() -> None:
    found = {ultrasound.depth_gain(flat(0.5), 0.4, rng(seed)).tobytes() for seed in range(9)}
    for one in found:
        gain = np.frombuffer(one, np.float32).reshape(224, 224) / 0.5
        assert np.ptp(gain, axis=1).max() == 0
        assert sorted((gain[0, 0], gain[-1, 0])) == pytest.approx([0.6, 1.4], abs=0.01)
    assert len(found) == 2


def test_a_shadow_of_sound_lies_below_and_reaches_the_bottom() -> None:
    for seed in range(6):
        gain = ultrasound.acoustic_shadow(flat(0.5), 1.2, rng(seed))[:, :, 0] / 0.5
        assert gain[:30].min() == pytest.approx(1)
        assert gain[-1].min() == pytest.approx(np.exp(-1.2), rel=1e-3)
        assert 0.08 < (gain[-1] < 0.6).mean() < 0.3
