"""Measured conditions: each measure follows what it names, little else, and any image can be measured."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from imaging_ft.augment.conditions import to_pixels
from imaging_ft.report.pixels import MEASURES, measure_pixels
from imaging_ft.types import Pixels

Scene = npt.NDArray[np.float32]


def scene(size: int = 320, *, channels: int = 1, seed: int = 5) -> Scene:
    """Return a picture of shapes with soft texture, the same at any size, within .15 and .85."""
    rng = np.random.default_rng(seed)
    full = np.full((1280, 1280), 0.4, np.float32)
    for _ in range(40):
        centre, radius = rng.integers(0, 1280, 2).tolist(), int(rng.integers(30, 200))
        cv2.circle(full, centre, radius, float(rng.uniform(0.2, 0.8)), -1)
    full += 0.05 * np.asarray(cv2.resize(rng.standard_normal((20, 20)).astype(np.float32), (1280, 1280)))
    small = np.asarray(cv2.resize(np.clip(full, 0.15, 0.85), (size, size), interpolation=cv2.INTER_AREA), np.float32)
    return np.repeat(small[:, :, np.newaxis], channels, axis=2)


Depth = type[np.uint8 | np.uint16]


def stored(image: npt.NDArray[np.floating], dtype: Depth = np.uint16) -> Pixels:
    return to_pixels(image.astype(np.float32), np.dtype(dtype))


def measured(image: npt.NDArray[np.floating], dtype: Depth = np.uint16) -> dict[str, float]:
    return measure_pixels(stored(image, dtype))


def blurred(image: Scene, sigma: float) -> Scene:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32).reshape(image.shape)


def noisy(image: Scene, sigma: float, seed: int = 1) -> Scene:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return (image + noise).astype(np.float32)


def framed(image: Scene, *, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0, level: float = 0) -> Scene:
    pads = ((top, bottom), (left, right), (0, 0))
    return np.pad(image, pads, constant_values=level)


CHANGES: list[tuple[str, int, Callable[[Scene, float], Scene]]] = [
    ("brightness", -1, lambda image, strength: image * (1 - strength)),
    ("contrast", -1, lambda image, strength: 0.5 + (image - 0.5) * (1 - strength)),
    ("clipped", +1, lambda image, strength: np.clip(image * (1 + 2 * strength), 0, 1)),
    ("sharpness", -1, lambda image, strength: blurred(image, 0.2 + 4 * strength)),
    ("noise", +1, lambda image, strength: noisy(image, 0.1 * strength)),
    ("colour_cast", +1, lambda image, strength: image * np.array([1, 1, 1 - strength / 2], np.float32)),
    ("border", +1, lambda image, strength: framed(image, left=int(200 * strength))),
]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("name", "direction", "change"), CHANGES, ids=[change[0] for change in CHANGES])
def test_a_measure_rises_or_falls_steadily_with_what_it_names(
    name: str, direction: int, change: Callable[[Scene, float], Scene], dtype: Depth
) -> None:
    image = scene(channels=3)
    steps = [measured(change(image, strength), dtype)[name] for strength in (0.1, 0.3, 0.5, 0.7)]
    assert (np.sign(np.diff(steps)) == direction).all(), steps


def test_every_measure_is_named_and_has_a_title() -> None:
    assert list(measured(scene(channels=3))) == list(MEASURES)
    assert list(measured(scene())) == [name for name in MEASURES if name != "colour_cast"]


def test_brightness_and_contrast_are_the_mean_and_the_rms() -> None:
    image = np.concatenate([np.full((8, 16, 1), 0.2), np.full((8, 16, 1), 0.6)])
    image += np.tile([[[-0.1], [0.1]]], (16, 8, 1))  # no line of it is flat
    found = measured(image)
    assert found["brightness"] == pytest.approx(0.4, abs=1e-3)
    assert found["contrast"] == pytest.approx(np.sqrt(0.2**2 + 0.1**2), abs=1e-3)


@pytest.mark.parametrize("sigma", [0.005, 0.01, 0.03, 0.08])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_estimated_within_15_percent(sigma: float, channels: int) -> None:
    smooth = blurred(scene(256, channels=channels), 8)
    assert measured(noisy(smooth, sigma))["noise"] == pytest.approx(sigma, rel=0.15)
    assert measured(smooth)["noise"] < 0.001


def test_noise_is_that_of_the_picture_and_not_of_its_frame() -> None:
    image = noisy(blurred(scene(256), 8), 0.03)
    assert measured(framed(image, top=100, left=100))["noise"] == pytest.approx(measured(image)["noise"], rel=0.01)


def test_sharpness_hardly_follows_the_size_of_the_image() -> None:
    sharpness = [measured(scene(size))["sharpness"] for size in (256, 320, 640, 1280)]
    assert max(sharpness) < 1.1 * min(sharpness)


def test_sharpness_does_not_follow_contrast_or_brightness() -> None:
    image = scene()
    expected = measured(image)["sharpness"]
    assert measured(0.1 + 0.3 * image)["sharpness"] == pytest.approx(expected, rel=0.02)


def test_clipped_pixels_are_counted_within_the_frame() -> None:
    image = scene(100, channels=3)
    image[10:20, 10:20] = 0
    image[50:60, 50:60, 1] = 1  # one channel at full scale is enough …
    image[80:90, 80:90, 2] = 0  # … and one at 0 is only a colour
    assert measured(image)["clipped"] == 0.02
    assert measured(framed(image, top=30, bottom=30))["clipped"] == 0.02


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_frame_is_found_at_every_side_and_the_picture_is_measured_within(level: float) -> None:
    image = scene(200, channels=3)
    inside = measured(image)
    found = measured(framed(image, top=10, bottom=20, left=30, right=40, level=level))
    assert inside.pop("border") == 0
    assert found.pop("border") == pytest.approx(1 - 200 * 200 / (230 * 270), abs=5e-4)
    assert found == inside


def test_bars_of_different_levels_are_a_frame() -> None:
    image = framed(framed(scene(200), left=50, level=1), top=50)
    assert measured(image)["border"] == pytest.approx(1 - 200 * 200 / 250**2, abs=5e-4)
    image = framed(framed(scene(200), top=50), left=50, level=1)
    assert measured(image)["border"] == pytest.approx(1 - 200 * 200 / 250**2, abs=5e-4)


def test_a_frame_with_a_little_noise_is_still_one_and_a_dark_picture_is_none() -> None:
    image = framed(scene(200), top=50, level=0.1)
    assert measured(noisy(image, 0.01))["border"] == pytest.approx(0.2, abs=0.01)
    assert measured(scene(200) * 0.03)["border"] == 0


def test_gray_in_three_channels_has_no_cast() -> None:
    assert measured(scene(channels=3), np.uint8)["colour_cast"] == 0


def test_a_colour_cast_is_the_distance_in_cielab() -> None:
    # sRGB (255, 128, 128) in CIELAB under D65 is L* 68.1, a* 48.4, b* 22.9.
    image = np.tile(np.array([1, 128 / 255, 128 / 255]), (32, 32, 1))
    image[::2, ::2] *= 0.999  # no line of it is flat, or all of it were frame
    assert measured(image)["colour_cast"] == pytest.approx(np.hypot(48.4, 22.9), abs=0.5)


def test_8_and_16_bits_of_one_picture_measure_the_same() -> None:
    image = (np.rint(scene(channels=3) * 255) / 255).astype(np.float32)
    assert measured(image, np.uint8) == pytest.approx(measured(image, np.uint16), rel=0.01)


def test_a_window_is_the_full_scale() -> None:
    values = (1000 + 2000 * scene()).astype(np.uint16)
    found = measure_pixels(values, window=(1000, 3000))
    assert found["brightness"] == pytest.approx(measured(scene())["brightness"], abs=2e-3)
    assert measure_pixels(values, window=(1000, 1500))["clipped"] > 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 3), (3, 2000), (5, 4)])
@pytest.mark.parametrize("kind", ["black", "white", "gray", "noise"])
def test_any_image_can_be_measured_twice_alike(kind: str, shape: tuple[int, int], channels: int, dtype: Depth) -> None:
    full = np.iinfo(dtype).max
    levels = {"black": 0, "white": full, "gray": full // 3}
    rng = np.random.default_rng(0)
    pixels = (
        rng.integers(0, full, (*shape, channels)) if kind == "noise" else np.full((*shape, channels), levels[kind])
    ).astype(dtype)
    found = measure_pixels(pixels)
    np.testing.assert_equal(measure_pixels(pixels.copy()), found)
    assert [name for name, value in found.items() if not np.isfinite(value)] in ([], ["noise"])
    assert all(value >= 0 for name, value in found.items() if name != "noise")
    if kind != "noise":
        expected = {"contrast": 0, "sharpness": 0, "border": 1, "clipped": float(kind != "gray")}
        assert {name: found[name] for name in expected} == expected
        assert np.isnan(found["noise"]) if min(shape) < 3 else found["noise"] == 0


def test_measuring_leaves_the_pixels_as_they_are() -> None:
    pixels = stored(scene())
    before = pixels.copy()
    measure_pixels(pixels)
    assert (pixels == before).all()
