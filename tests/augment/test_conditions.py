"""What holds for every condition: the form of the image, the seed, the severities."""

from itertools import pairwise

import numpy as np
import pytest

from imaging_ft.augment.conditions import CONDITIONS, Condition, Setting, condition, seeded, to_float, to_pixels
from imaging_ft.errors import ConfigError
from imaging_ft.types import Axis, FloatImage, Pixels

pytestmark = pytest.mark.filterwarnings("error")

every_condition = pytest.mark.parametrize("member", CONDITIONS.values(), ids=lambda member: member.name)
every_form = pytest.mark.parametrize(
    ("member", "channels", "dtype"),
    [
        pytest.param(member, channels, dtype, id=f"{member.name}-{channels}-{dtype.__name__}")
        for member in CONDITIONS.values()
        for channels in member.channels
        for dtype in (np.uint8, np.uint16)
    ],
)
SAME_FOR_EVERY_IMAGE = {
    *("over_exposure", "tube_voltage", "dense_shield", "scatter", "gibbs", "defocus", "vignette", "haze"),
    *("black_corner", "fog", "distance", "compression"),
}
ONLY_A_SIGN_IS_DRAWN = {
    *("window_shift", "window_centre", "window_width", "roll", "position_roll", "yaw", "pitch", "depth_gain"),
}
DRAWN_ON_A_FEW_PLACES = {"motion_ghost"}  # whole pixels along one of two axes


def stored(scene: FloatImage, channels: int, dtype: type[np.uint8] | type[np.uint16]) -> Pixels:
    return to_pixels(scene[:, :, :channels], np.dtype(dtype))


def under(member: Condition, severity: int, pixels: Pixels, *, sample_id: str = "a", seed: int = 0) -> Pixels:
    return Setting(((member, severity),)).apply(pixels, sample_id=sample_id, seed=seed)


@every_form
def test_a_condition_keeps_shape_and_dtype_and_leaves_its_input_alone(
    member: Condition, channels: int, dtype: type[np.uint8] | type[np.uint16], scene: FloatImage
) -> None:
    pixels = stored(scene, channels, dtype)
    pixels.setflags(write=False)
    before = pixels.copy()
    for severity in (1, 3, 5):
        changed = under(member, severity, pixels)
        assert changed.shape == pixels.shape
        assert changed.dtype == pixels.dtype
        assert changed.flags.c_contiguous
        assert not np.array_equal(changed, pixels)
    assert np.array_equal(pixels, before)


@every_condition
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_images_stay_within_the_range(member: Condition, level: float) -> None:
    image = np.full((20, 30, 3), level, np.float32)
    for severity in (1, 5):
        changed = member.apply(image, member.value(severity), np.random.default_rng(0))
        assert changed.dtype == np.float32
        assert changed.shape == image.shape
        assert np.isfinite(changed).all()
        assert changed.min() >= 0
        assert changed.max() <= 1


@every_form
def test_severity_0_changes_nothing(
    member: Condition, channels: int, dtype: type[np.uint8] | type[np.uint16], scene: FloatImage
) -> None:
    pixels = stored(scene, channels, dtype)
    assert np.array_equal(under(member, 0, pixels), pixels)


@every_condition
def test_the_same_seed_gives_the_same_bytes(member: Condition, scene: FloatImage) -> None:
    pixels = stored(scene, 3, np.uint16)
    assert under(member, 3, pixels).tobytes() == under(member, 3, pixels).tobytes()


@every_condition
def test_another_sample_or_seed_draws_anew_where_there_is_chance(member: Condition, scene: FloatImage) -> None:
    pixels = stored(scene, member.channels[0], np.uint16)
    samples = {under(member, 3, pixels, sample_id=f"image {index}").tobytes() for index in range(12)}
    seeds = {under(member, 3, pixels, seed=index).tobytes() for index in range(12)}
    expected = 1 if member.name in SAME_FOR_EVERY_IMAGE else 2 if member.name in ONLY_A_SIGN_IS_DRAWN else 12
    if member.name in DRAWN_ON_A_FEW_PLACES:
        assert min(len(samples), len(seeds)) > 6
        return
    assert len(samples) == len(seeds) == expected


@every_condition
def test_a_higher_severity_changes_the_image_more(member: Condition, scene: FloatImage) -> None:
    pixels = stored(scene, 3, np.uint16)
    clean = to_float(pixels)
    draws = 8 if member.name in {*SAME_FOR_EVERY_IMAGE, *ONLY_A_SIGN_IS_DRAWN} else 200  # each draws its own

    def change(severity: int) -> float:
        changed = (under(member, severity, pixels, sample_id=str(index)) for index in range(draws))
        return float(np.mean([np.abs(to_float(image) - clean).mean() for image in changed]))

    apart = [change(severity) for severity in range(6)]
    assert all(more > less for less, more in pairwise(apart)), apart


@every_condition
def test_values_lead_away_from_the_neutral_one(member: Condition) -> None:
    steps = np.abs(np.array([member.neutral, *member.values]) - member.neutral)
    assert (np.diff(steps) > 0).all()
    assert [member.value(severity) for severity in range(6)] == [member.neutral, *member.values]


def test_between_whole_severities_the_value_is_interpolated() -> None:
    assert CONDITIONS["low_dose"].value(0.5) == pytest.approx(-1)
    assert CONDITIONS["roll"].value(4.5) == pytest.approx((25 + 40) / 2)


@pytest.mark.parametrize("severity", [-0.1, 5.1, float("nan")])
def test_a_severity_outside_0_to_5_is_refused(severity: float) -> None:
    with pytest.raises(ValueError, match=r"roll: severity .* is not within 0 to 5"):
        CONDITIONS["roll"].value(severity)


def test_an_unknown_condition_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"my suite: no condition named 'low_dosis'; did you mean 'low_dose'\?"):
        condition("low_dosis", where="my suite")


def test_every_condition_stands_under_its_own_name() -> None:
    assert {name: member.name for name, member in CONDITIONS.items()} == {name: name for name in CONDITIONS}


def test_the_generator_depends_on_seed_sample_condition_and_severity() -> None:
    keys = [(0, "a", "roll", 1), (1, "a", "roll", 1), (0, "b", "roll", 1), (0, "a", "yaw", 1), (0, "a", "roll", 2)]
    assert len({seeded(*key).integers(2**62) for key in keys}) == len(keys)
    assert seeded(*keys[0]).integers(2**62) == seeded(*keys[0]).integers(2**62)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_stored_value_survives_the_way_to_fractions_and_back(dtype: type) -> None:
    pixels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(1, -1, 1)
    assert np.array_equal(to_pixels(to_float(pixels), pixels.dtype), pixels)


def test_a_condition_of_colour_refuses_gray_in_one_line() -> None:
    setting = Setting(((CONDITIONS["stain"], 3),))
    with pytest.raises(ConfigError, match=r"condition stain: takes images of 3 channels, not 1; leave it out of the"):
        setting.apply(np.full((8, 8, 1), 90, np.uint8), sample_id="a", seed=0)


@every_condition
def test_gray_in_three_channels_stays_gray(member: Condition, scene: FloatImage) -> None:
    gray = np.repeat(scene[:, :, :1], 3, axis=2)
    for severity in (1, 3, 5):
        changed = member.apply(gray, member.value(severity), np.random.default_rng(0))
        assert np.ptp(changed, axis=2).max() < 1e-5


@every_condition
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5)])
def test_tiny_images_keep_their_form(member: Condition, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 0.4, np.float32)
    image[0, 0] = (0.2, 0.5, 0.7)
    for severity in (1, 5):
        changed = member.apply(image, member.value(severity), np.random.default_rng(1))
        assert (changed.shape, changed.dtype) == (image.shape, np.float32)
        assert 0 <= changed.min() <= changed.max() <= 1


def test_within_a_window_white_is_its_upper_end() -> None:
    twelve_bits = np.arange(4096, dtype=np.uint16).reshape(64, 64, 1)
    setting = Setting(((CONDITIONS["over_exposure"], 5),))
    changed = setting.apply(twelve_bits, sample_id="a", seed=0, window=(0, 4095))
    assert np.array_equal(changed, np.minimum(np.rint(twelve_bits * 10.0), 4095))
    offset = setting.apply(twelve_bits + np.uint16(1000), sample_id="a", seed=0, window=(1000, 5095))
    assert np.array_equal(offset, changed + 1000)


def test_what_lies_outside_a_window_is_black_or_white() -> None:
    pixels = np.array([[[0], [999], [3000], [60000]]], np.uint16)
    assert to_float(pixels, window=(1000, 5000)).ravel().tolist() == [0, 0, 0.5, 1]


def test_the_view_changes_before_the_light_so_that_noise_is_never_turned(scene: FloatImage) -> None:
    dose, roll = CONDITIONS["low_dose"], CONDITIONS["roll"]
    flat = np.full((96, 96, 1), 32768, np.uint16)

    def neighbours(pixels: Pixels) -> float:
        noise = to_float(pixels)[20:-20, 20:-20, 0]
        return float(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1])

    turned_first = Setting(((dose, 5), (roll, 3))).apply(flat, sample_id="a", seed=0)
    noise_first = under(roll, 3, under(dose, 5, flat))
    assert abs(neighbours(turned_first)) < 0.06
    assert neighbours(noise_first) > 0.2  # bilinear interpolation smooths: what the order avoids
    pixels = to_pixels(scene, np.dtype(np.uint16))
    both_ways = {
        Setting(parts).apply(pixels, sample_id="a", seed=0).tobytes()
        for parts in (((dose, 5), (roll, 3)), ((roll, 3), (dose, 5)))
    }
    assert len(both_ways) == 1


def test_the_order_of_axes_is_the_way_of_the_light() -> None:
    order = list(Axis)
    assert order.index(Axis.ANGLE) < order.index(Axis.LIGHTING) < order.index(Axis.SENSOR)
