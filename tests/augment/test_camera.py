"""Conditions of cameras are what they say."""

import numpy as np
import pytest

from imaging_ft.augment.conditions import camera, fields
from imaging_ft.types import FloatImage

pytestmark = pytest.mark.filterwarnings("error")


def flat(*colour: float, size: int = 224) -> FloatImage:
    return np.broadcast_to(np.array(colour, np.float32), (size, size, len(colour))).copy()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def linear(level: float | np.ndarray) -> np.ndarray:
    return np.power(level, 2.2)


def test_at_night_the_lamp_falls_off_with_the_square_and_colour_is_gone() -> None:
    found = camera.night_infrared(flat(0.9, 0.6, 0.3), 4.0, rng())
    gray = 0.299 * 0.9 + 0.587 * 0.6 + 0.114 * 0.3
    assert np.ptp(found, axis=2).max() == 0
    assert linear(found[102:122, 102:122]).mean() == pytest.approx(linear(gray), rel=0.03)
    assert linear(found[:8, :8]).mean() == pytest.approx(linear(gray) / (1 + 4), rel=0.1)


def test_a_shadow_takes_its_share_of_light_from_one_side() -> None:
    shares: list[float] = []
    for seed in range(12):
        light = linear(camera.shadow(flat(0.8), 0.5, rng(seed))[:, :, 0]) / linear(0.8)
        assert light.min() == pytest.approx(0.5, abs=0.01)
        assert light.max() == pytest.approx(1, abs=0.01)
        shares.append(float((light < 0.75).mean()))
    assert min(shares) > 0.1
    assert max(shares) < 0.9


def test_in_fog_of_a_kilometre_of_range_an_object_at_30_m_keeps_its_contrast_by_koschmieder() -> None:
    through = np.exp(-0.003 * 30)
    found = camera.fog(flat(0.2, 0.5, 0.9), 0.003, rng())[0, 0]
    assert linear(found) == pytest.approx(linear(np.array([0.2, 0.5, 0.9])) * through + 0.7 * (1 - through), rel=1e-3)


@pytest.mark.parametrize("size", [224, 448])
def test_motion_spreads_light_along_a_line_of_its_length(size: int) -> None:
    point = flat(0.0, size=size)
    point[size // 2, size // 2] = 1
    for seed in range(4):
        light = linear(camera.motion(point, 15, rng(seed))[:, :, 0])
        y, x = np.mgrid[:size, :size] - size // 2
        assert light.sum() == pytest.approx(1, rel=0.01)
        spread = np.array(
            [[(light * x * x).sum(), (light * x * y).sum()], [(light * x * y).sum(), (light * y * y).sum()]]
        )
        across, along = np.linalg.eigvalsh(spread)
        assert along == pytest.approx((15 * size / 224) ** 2 / 12, rel=0.08)
        assert across < 0.6


def test_from_further_away_there_are_fewer_pixels_each_the_mean_of_what_it_covers() -> None:
    board = np.indices((224, 224)).sum(axis=0)[:, :, np.newaxis].astype(np.float32) % 2
    assert camera.distance(board, 0.5, rng()) == pytest.approx(0.5)
    scene = rng().uniform(0, 1, (224, 224, 3)).astype(np.float32)
    assert camera.distance(scene, 0.25, rng()).mean(axis=(0, 1)) == pytest.approx(scene.mean(axis=(0, 1)), abs=2e-3)


def test_compression_is_jpeg_in_the_right_order_of_channels() -> None:
    found = camera.compression(flat(0.9, 0.2, 0.1), 50, rng())
    assert found[100, 100] == pytest.approx([0.9, 0.2, 0.1], abs=0.03)
    ramp = np.linspace(0, 1, 224, dtype=np.float32).reshape(1, -1, 1).repeat(224, axis=0)
    blocks = np.abs(np.diff(camera.compression(ramp, 7, rng())[100, :, 0])).reshape(-1)
    assert blocks[7::8].sum() > blocks.sum() / 2  # what changes, changes between blocks of 8 pixels


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_something_opaque_covers_its_share_in_a_darker_colour_of_the_scene(share: float) -> None:
    scene = flat(0.8, 0.6, 0.4)
    covered = [float(fields.blob(scene, rng(seed), area=share).mean()) for seed in range(10)]
    assert covered == pytest.approx([share] * 10, rel=0.1)
    for seed in range(10):
        found = camera.occlusion(scene, share, rng(seed))
        assert found / found[:, :, :1] == pytest.approx(scene / scene[:, :, :1], rel=1e-4)
        darkest = found.min() / 0.4
        assert 0.4 <= darkest < 1
        hidden = np.isclose(found[:, :, 0], 0.8 * darkest, atol=1e-3)
        assert hidden.mean() == pytest.approx(share, rel=0.25)
