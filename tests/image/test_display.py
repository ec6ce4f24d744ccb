"""The grayscale pipeline against numbers worked out by hand from PS3.3 C.11.2.1.2 and C.11.2.1.3."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging_ft.errors import ImageError
from imaging_ft.image._display import Lut, Rescale, Window, display_table


def shown(window: Window | Lut | None, stored: list[int], **options: Any) -> list[int]:
    """Return the display values of some stored values of 12 bits."""
    settings: dict[str, Any] = {"modality": Rescale(), "inverted": False, **options}
    table = display_table(0, 4095, voi=window, **settings)
    return [int(table[value]) for value in stored]


def test_linear_follows_the_worked_example_of_the_standard() -> None:
    # C.11.2.1.2.1, center 2048, width 4096: x <= 0 gives the least value, x > 4095 the greatest, and between
    # ((x - 2047.5) / 4095 + 0.5) * 65535 = x / 4095 * 65535, which for 1000 is 16003.66.
    assert shown(Window(2048, 4096), [0, 1000, 2048, 4095]) == [0, 16004, 32776, 65535]
    # Center 2048, width 1: at most 2047.5 is black, more is white.
    assert shown(Window(2048, 1), [2047, 2048]) == [0, 65535]
    # Center 100, width 101: from 49.5 (black) to 149.5 (white); 99.5 is the middle.
    # 50: 0.5 / 100 * 65535 = 327.675; 100: 50.5 / 100 * 65535 = 33095.2; 149: 99.5 / 100 * 65535 = 65207.3.
    assert shown(Window(100, 101), [49, 50, 100, 149, 150]) == [0, 328, 33095, 65207, 65535]


def test_linear_exact_is_centred_on_the_value_itself() -> None:
    # Center 100, width 100: from 50 to 150. 51: 1 / 100 * 65535 = 655.35; 125: 0.75 * 65535 = 49151.25.
    window = Window(100, 100, "LINEAR_EXACT")
    assert shown(window, [50, 51, 125, 150, 151]) == [0, 655, 49151, 65535, 65535]
    # A width under one is allowed: 99.75 to 100.25.
    assert shown(Window(100, 0.5, "LINEAR_EXACT"), [99, 100, 101]) == [0, 32768, 65535]


def test_sigmoid_follows_its_formula_and_does_not_overflow() -> None:
    def formula(x: float) -> int:
        return round(65535 / (1 + math.exp(-4 * (x - 2000) / 500)))

    values = [1500, 1750, 2000, 2125, 2500]
    assert shown(Window(2000, 500, "SIGMOID"), values) == [formula(value) for value in values]
    assert formula(2125) == 47910
    assert shown(Window(2000, 0.001, "SIGMOID"), [0, 4095]) == [0, 65535]


def test_a_window_is_in_modality_values() -> None:
    # Rescaled by 2x - 1000: 500 becomes 0, 800 becomes 600. LINEAR_EXACT from 0 to 800.
    # 600 / 800 * 65535 = 49151.25.
    modality = Rescale(2, -1000)
    window = Window(400, 800, "LINEAR_EXACT")
    assert shown(window, [499, 500, 800, 900], modality=modality) == [0, 0, 49151, 65535]


def test_without_a_window_the_full_range_is_shown_whatever_the_sign_of_the_slope() -> None:
    assert shown(None, [0, 1, 4095]) == [0, 16, 65535]
    assert shown(None, [0, 1, 4095], modality=Rescale(3.5, -77)) == [0, 16, 65535]
    assert shown(None, [0, 1, 4095], modality=Rescale(-1, 0)) == [65535, 65519, 0]


def test_a_lut_holds_its_ends_and_is_scaled_by_its_own_bits() -> None:
    # Values 10, 11, 12 map to 0, 512, 1023 of 10 bits: 512 / 1023 * 65535 = 32799.5... -> 32800.
    lut = Lut(first=10, bits=10, table=np.array([0, 512, 1023], np.uint16))
    assert shown(lut, [0, 10, 11, 12, 4095]) == [0, 0, 32800, 65535, 65535]
    # As a modality LUT with no window, the range shown is that of its bits.
    assert shown(None, [10, 11, 12], modality=lut) == [0, 32800, 65535]
    # An entry over its own bits is held at white.
    over = Lut(first=0, bits=8, table=np.array([0, 300], np.uint16))
    assert shown(over, [1]) == [65535]


def test_modality_lut_then_voi_then_inversion() -> None:
    # Modality LUT: 0 -> 100, 1 -> 200, 2 -> 300. Window (LINEAR_EXACT) 100 to 300. Then inverted.
    modality = Lut(first=0, bits=12, table=np.array([100, 200, 300], np.uint16))
    window = Window(200, 200, "LINEAR_EXACT")
    assert shown(window, [0, 1, 2], modality=modality) == [0, 32768, 65535]
    assert shown(window, [0, 1, 2], modality=modality, inverted=True) == [65535, 32767, 0]


@given(
    center=st.floats(-3000, 6000),
    width=st.floats(1, 9000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    slope=st.floats(0.1, 8),
    intercept=st.floats(-2000, 2000),
)
def test_display_values_never_fall_and_inversion_is_exact(
    center: float, width: float, function: Any, slope: float, intercept: float
) -> None:
    modality, window = Rescale(slope, intercept), Window(center, width, function)
    table = display_table(-512, 511, modality=modality, voi=window, inverted=False)
    assert table.dtype == np.uint16
    assert len(table) == 1024
    assert (np.diff(table.astype(int)) >= 0).all()
    inverted = display_table(-512, 511, modality=modality, voi=window, inverted=True)
    assert (table.astype(int) + inverted == 65535).all()


@pytest.mark.parametrize(
    ("width", "function"), [(0.5, "LINEAR"), (0, "LINEAR_EXACT"), (-4, "SIGMOID"), (math.nan, "LINEAR")]
)
def test_an_invalid_window_is_refused(width: float, function: Any) -> None:
    with pytest.raises(ImageError, match=r"the window \(center 5, width .* is not valid: .*; correct or delete"):
        Window(5, width, function)


def test_a_slope_that_maps_everything_to_one_value_is_refused() -> None:
    with pytest.raises(ImageError, match="correct RescaleSlope"):
        shown(None, [0], modality=Rescale(0, 5))
    with pytest.raises(ImageError, match="not a finite number"):
        shown(None, [0], modality=Rescale(math.inf, 0))
