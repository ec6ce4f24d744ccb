"""Conditions of radiographs are the physics they name."""

import numpy as np
import pytest

from imaging_ft.augment.conditions import radiograph
from imaging_ft.types import FloatImage

pytestmark = pytest.mark.filterwarnings("error")


def flat(level: float, *, size: int = 224) -> FloatImage:
    return np.full((size, size, 1), level, np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_scatter_keeps_the_mean_and_takes_its_share_of_contrast() -> None:
    point = flat(0.2)
    point[112, 112] = 1
    found = radiograph.scatter(point, 0.4, rng())
    assert found.mean() == pytest.approx(point.mean(), rel=1e-3)
    assert found[112, 112, 0] - found[0, 0, 0] == pytest.approx(0.6 * 0.8, rel=0.01)


def test_scatter_is_a_gaussian_a_tenth_of_the_longer_side_wide() -> None:
    edge = flat(0.0)
    edge[:, 112:] = 1
    profile = radiograph.scatter(edge, 1.0, rng())[112, :, 0]
    upto = (profile > 0.1587).argmax(), (profile > 0.8413).argmax()  # one σ to either side of the edge
    assert upto[1] - upto[0] == pytest.approx(2 * 22.4, abs=2)


@pytest.mark.parametrize("seed", range(6))
def test_grid_lines_are_one_sine_along_one_axis(seed: int) -> None:
    found = radiograph.grid_lines(flat(0.5), 0.1, rng(seed))[:, :, 0]
    across = found if np.ptp(found[:, 0]) < 1e-6 else found.T
    assert np.ptp(across, axis=0).max() < 1e-6
    assert across.max() == pytest.approx(0.55, abs=1e-3)
    assert across.min() == pytest.approx(0.45, abs=1e-3)
    spectrum = np.abs(np.fft.rfft(across[0] - across[0].mean()))
    assert 19 <= spectrum.argmax() <= 51


def test_a_collimator_takes_half_to_all_of_the_share_from_every_side() -> None:
    for seed in range(8):
        shut = radiograph.collimation(flat(1.0), 0.2, rng(seed))[:, :, 0] < 0.5
        sides = [shut[112].argmin(), shut[112, ::-1].argmin(), shut[:, 112].argmin(), shut[::-1, 112].argmin()]
        assert all(0.095 * 224 <= side <= 0.205 * 224 for side in sides)
        assert shut[0, 0]
        assert not shut[60:-60, 60:-60].any()


def test_objects_on_a_patient_are_absorbers_of_a_film_whose_metal_is_white() -> None:
    lungs = flat(0.1)
    for seed in range(12):
        thin, thick = (radiograph.foreign_objects(lungs, value, rng(seed))[:, :, 0] for value in (0.5, 1.0))
        assert (thin >= lungs[:, :, 0] - 1e-6).all()
        # Twice the optical thickness is the transmission squared: (1 − I′) / (1 − I) = exp(−μl).
        assert (1 - thick) / 0.9 == pytest.approx(np.square((1 - thin) / 0.9), abs=1e-5)
        assert 0.002 < (thick > 0.12).mean() < 0.25


@pytest.mark.parametrize("width", [224, 448])
def test_dead_columns_read_nothing_from_top_to_bottom(width: int) -> None:
    found = radiograph.dead_columns(flat(0.7, size=width), 8, rng())[:, :, 0]
    dead = (found == 0).all(axis=0)
    assert dead.sum() == 8 * width // 224
    assert found[:, ~dead] == pytest.approx(0.7)


def test_pixels_that_cover_several_columns_lose_the_dead_share() -> None:
    found = radiograph.dead_columns(flat(1.0, size=56), 3, rng())
    assert 1 - found.mean() == pytest.approx(3 / 224, rel=1e-3)
    assert found.min() >= 1 - 3 / 4
