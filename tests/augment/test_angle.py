"""Conditions of view are the geometry they name, checked against coordinates computed here."""

from collections.abc import Callable

import numpy as np
import pytest

from imaging_ft.augment.conditions import angle
from imaging_ft.types import FloatImage

pytestmark = pytest.mark.filterwarnings("error")

Array = np.ndarray
SIZES = [(61, 81), (80, 80), (151, 41)]


def picture(x: Array, y: Array) -> Array:
    """A smooth picture without symmetry, as a function of the place."""
    return 0.5 + 0.2 * np.sin(x / 11 + 0.4) + 0.15 * np.cos(y / 9 - 0.2) + 0.1 * np.sin((x + 2 * y) / 17)


def grid(height: int, width: int) -> tuple[Array, Array]:
    """Return x and y of every pixel, from the middle."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return x - (width - 1) / 2, y - (height - 1) / 2


def drawn(height: int, width: int) -> FloatImage:
    return picture(*grid(height, width))[:, :, np.newaxis].astype(np.float32)


def furthest(found: FloatImage, came_from: Callable[[float], tuple[Array, Array]]) -> float:
    """Return how far an image is from the picture at the places its pixels came from, for the nearer sign."""
    height, width = found.shape[:2]
    apart: list[float] = []
    for sign in (1, -1):
        x, y = came_from(sign)
        inside = (np.abs(x) < (width - 1) / 2 - 1) & (np.abs(y) < (height - 1) / 2 - 1)
        assert inside.mean() > 0.15
        apart.append(float(np.abs(found[:, :, 0] - picture(x, y))[inside].max()))
    return min(apart)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("degrees", [5, 40])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_roll_turns_every_place_by_its_angle_about_the_middle(height: int, width: int, degrees: float, seed: int):
    def came_from(sign: float) -> tuple[Array, Array]:
        x, y = grid(height, width)
        turn = sign * np.radians(degrees)
        return x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)

    assert furthest(angle.roll(drawn(height, width), degrees, generator(seed)), came_from) < 0.01


def test_half_a_turn_and_quarter_turns_are_exact() -> None:
    image = generator(0).uniform(0, 1, (40, 40, 3)).astype(np.float32)
    assert angle.roll(image, 180, generator(0)) == pytest.approx(image[::-1, ::-1], abs=1e-3)
    quarter = angle.roll(image, 90, generator(0))
    assert any(quarter == pytest.approx(np.rot90(image, turns), abs=1e-3) for turns in (1, 3))


def seen_from_the_side(x: Array, y: Array, focal: float, degrees: float) -> tuple[Array, Array]:
    """Return the place in the scene that stands at (x, y) in the view: x' = f x cos / (f - x sin), inverted."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    there = x * focal / (focal * cosine + x * sine)
    return there, y * (focal - there * sine) / focal


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("degrees", [10, 50])
@pytest.mark.parametrize("turned", ["yaw", "pitch"])
def test_yaw_and_pitch_move_every_place_by_the_formula(height: int, width: int, degrees: float, turned: str) -> None:
    focal = max(height, width) / (2 * np.tan(np.radians(30)))

    def came_from(sign: float) -> tuple[Array, Array]:
        x, y = grid(height, width)
        if turned == "yaw":
            return seen_from_the_side(x, y, focal, sign * degrees)
        there_y, there_x = seen_from_the_side(y, x, focal, sign * degrees)
        return there_x, there_y

    apply = {"yaw": angle.yaw, "pitch": angle.pitch}[turned]
    assert furthest(apply(drawn(height, width), degrees, generator(0)), came_from) < 0.02


@pytest.mark.parametrize("apply", [angle.roll, angle.yaw, angle.pitch])
def test_the_middle_stays_in_the_middle(apply: Callable[..., FloatImage]) -> None:
    image = drawn(61, 81)
    for degrees in (10, 50):
        assert apply(image, degrees, generator(0))[30, 40] == pytest.approx(image[30, 40], abs=1e-3)


@pytest.mark.parametrize("apply", [angle.roll, angle.yaw, angle.pitch])
def test_either_sign_is_drawn(apply: Callable[..., FloatImage]) -> None:
    image = drawn(40, 60)
    views = {apply(image, 20, generator(seed)).tobytes() for seed in range(16)}
    assert len(views) == 2


@pytest.mark.parametrize("apply", [angle.roll, angle.yaw, angle.pitch])
def test_what_was_not_seen_is_filled_with_the_median_of_the_border(apply: Callable[..., FloatImage]) -> None:
    image = np.full((60, 60, 3), 0.8, np.float32)
    border = np.array([0.2, 0.3, 0.4], np.float32)
    image[:3], image[-3:], image[:, :3], image[:, -3:] = border, border, border, border
    found = apply(image, 40, generator(0))
    corners = found[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.abs(corners - border).max(axis=1).min() < 1e-5
