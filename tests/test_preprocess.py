"""The input contract: depth, channels, window and resize, each against an independent account of it."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from imaging_ft.errors import ConfigError
from imaging_ft.inference.runner import Runner
from imaging_ft.preprocess import (
    InputSpec,
    conform,
    letterbox,
    prepare,
    reference_levels,
    resize_levels,
    to_levels,
    window_terms,
)
from tests.conftest import Exported


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def spec(**values: Any) -> InputSpec:
    return InputSpec.model_validate({"channels": 1, "dtype": "uint16", "height": 64, "width": 48} | values)


def ramp(dtype: Any, channels: int = 1) -> Any:
    """Return every value of a type once, [16, -1, channels]."""
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    return np.repeat(values.reshape(16, -1, 1), channels, axis=2)


@pytest.mark.parametrize("channels", [1, 3])
def test_8_bits_keep_full_scale_through_16_and_come_back_exactly(channels: int) -> None:
    eight = ramp(np.uint8, channels)
    sixteen = conform(eight, spec(channels=channels))
    assert sixteen.dtype == np.uint16
    assert (sixteen.min(), sixteen.max()) == (0, 65535)
    assert np.array_equal(conform(sixteen, spec(channels=channels, dtype="uint8")), eight)


def test_16_bits_become_the_nearest_of_8() -> None:
    eight = conform(ramp(np.uint16), spec(dtype="uint8"))
    assert eight.dtype == np.uint8
    assert (eight.min(), eight.max()) == (0, 255)
    assert np.array_equal(eight.ravel(), np.rint(np.arange(65536) / 65535 * 255))


def test_an_image_that_conforms_is_left_as_it_is(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 65536, (9, 7, 1), dtype=np.uint16)
    assert conform(pixels, spec()) is pixels


def test_rgb_becomes_gray_as_in_pillow_within_one_level(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (90, 70, 3), dtype=np.uint8)
    gray = conform(pixels, spec(dtype="uint8"))
    assert gray.shape == (90, 70, 1)
    assert gray.dtype == np.uint8
    pillow = np.asarray(Image.fromarray(pixels).convert("L")).astype(int)
    assert np.abs(gray[..., 0] - pillow).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_equal_channels_become_that_gray_and_gray_is_repeated(dtype: Any) -> None:
    name = np.dtype(dtype).name
    gray, colour = ramp(dtype), ramp(dtype, 3)
    assert np.array_equal(conform(colour, spec(dtype=name)), gray)
    assert np.array_equal(conform(gray, spec(dtype=name, channels=3)), colour)


@given(window=st.tuples(st.integers(0, 65534), st.integers(1, 65535)).filter(lambda w: w[0] < w[1]))
def test_a_window_maps_its_ends_exactly_clips_and_never_falls(window: tuple[int, int]) -> None:
    low, high = window
    levels = to_levels(ramp(np.uint16), spec(window=window)).ravel().astype(int)
    assert levels[low] == 0
    assert levels[high] == 255
    assert (levels[:low] == 0).all()
    assert (levels[high:] == 255).all()
    assert (np.diff(levels) >= 0).all()
    exact = np.clip((np.arange(65536) - low) / (high - low), 0, 1) * 255
    assert np.abs(levels - exact).max() <= 0.5 + 1e-3


def test_without_a_window_16_bits_are_rounded_as_conform_rounds_them() -> None:
    assert np.array_equal(to_levels(ramp(np.uint16), spec()), conform(ramp(np.uint16), spec(dtype="uint8")))
    assert window_terms(spec()) == window_terms(spec(window=(0, 65535)))


def test_8_bit_levels_are_the_pixels() -> None:
    assert np.array_equal(to_levels(ramp(np.uint8), spec(dtype="uint8")), ramp(np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(200, 150), (64, 48), (20, 31), (1, 1)])
def test_stretch_is_pillows_bilinear_resize(size: tuple[int, int], channels: int, rng: np.random.Generator) -> None:
    levels = rng.integers(0, 256, (*size, channels), dtype=np.uint8)
    resized = resize_levels(levels, spec(channels=channels, dtype="uint8"))
    assert resized.shape == (64, 48, channels)
    for channel in range(channels):
        plane = Image.fromarray(levels[..., channel]).resize((48, 64), Image.Resampling.BILINEAR)
        assert np.array_equal(resized[..., channel], np.asarray(plane))


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    into=st.tuples(st.integers(32, 600), st.integers(32, 600)),
)
def test_a_letterboxed_image_fits_touches_a_side_and_keeps_its_aspect(
    height: int, width: int, into: tuple[int, int]
) -> None:
    box = spec(height=into[0], width=into[1], resize="letterbox")
    inner_height, inner_width = letterbox(height, width, box)
    assert 1 <= inner_height <= box.height
    assert 1 <= inner_width <= box.width
    assert inner_height == box.height or inner_width == box.width
    scale = min(box.height / height, box.width / width)
    assert abs(inner_height - max(1.0, height * scale)) <= 0.5 + 1e-6
    assert abs(inner_width - max(1.0, width * scale)) <= 0.5 + 1e-6


@pytest.mark.parametrize("size", [(200, 50), (50, 200), (101, 100)])
def test_a_letterbox_is_pillows_resize_in_the_middle_of_black(size: tuple[int, int]) -> None:
    box = spec(dtype="uint8", channels=3, height=64, width=64, resize="letterbox")
    levels = np.full((*size, 3), 200, np.uint8)
    boxed = resize_levels(levels, box)
    rows, columns = np.nonzero(boxed.any(axis=2))
    inner_height, inner_width = letterbox(*size, box)
    assert (boxed[boxed > 0] == 200).all()
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (inner_height, inner_width)
    assert abs(rows.min() - (63 - rows.max())) <= 1
    assert abs(columns.min() - (63 - columns.max())) <= 1


def test_prepare_conforms_windows_and_resizes(rng: np.random.Generator) -> None:
    colour = rng.integers(0, 65536, (90, 70, 3), dtype=np.uint16)
    wanted = spec(window=(1000, 40000), resize="letterbox")
    levels = prepare(colour, wanted)
    assert levels.shape == (64, 48, 1)
    assert levels.dtype == np.uint8
    step_by_step = resize_levels(to_levels(conform(colour, wanted), wanted), wanted)
    assert np.abs(levels.astype(int) - step_by_step).max() <= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"dtype": "uint8", "window": (0, 255)},
            "a window is for uint16 images only; leave it out for uint8",
        ),
        ({"window": (4000, 1000)}, r"window \(4000, 1000\) must be LOW < HIGH within 0 to 65535"),
        ({"window": (5, 5)}, r"window \(5, 5\) must be LOW < HIGH"),
        ({"window": (-1, 9)}, r"window \(-1, 9\) must be LOW < HIGH"),
        ({"window": (0, 65536)}, r"window \(0, 65536\) must be LOW < HIGH"),
        ({"channels": 2}, "channels: "),
        ({"height": 31}, "height: "),
        ({"colour": 3}, "unknown key 'colour'"),
    ],
)
def test_a_contract_that_cannot_hold_is_refused(values: dict[str, Any], message: str) -> None:
    base: dict[str, Any] = {"channels": 1, "dtype": "uint16"}
    with pytest.raises(ConfigError, match=f"card.yaml: {message}"):
        InputSpec.checked(base | values, where="card.yaml")


def test_a_contract_does_not_change() -> None:
    contract = InputSpec()
    with pytest.raises(ValidationError):
        contract.height = 7  # pyright: ignore[reportAttributeAccessIssue]
    assert InputSpec.model_validate(contract.model_dump()) == contract
    assert (spec().full_scale, contract.full_scale) == (65535, 255)


SHAPES = st.one_of(
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.sampled_from([(1, 1), (1, 90), (90, 1), (700, 33), (33, 700), (64, 48), (65, 47)]),
)


@settings(deadline=None, max_examples=60)
@given(
    shape=SHAPES,
    dtype=st.sampled_from(["uint8", "uint16"]),
    channels=st.sampled_from([1, 3]),
    resize=st.sampled_from(["stretch", "letterbox"]),
    window=st.sampled_from([None, (100, 3000)]),
    seed=st.integers(0, 99),
)
def test_the_graph_is_within_two_levels_of_numpy_and_pillow_and_hardly_ever_beyond_one(
    shape: tuple[int, int], dtype: str, channels: int, resize: str, window: tuple[int, int] | None, seed: int
) -> None:
    contract = spec(
        dtype=dtype, channels=channels, resize=resize, window=window if dtype == "uint16" else None, height=40, width=56
    )
    top = 4000 if contract.window else contract.full_scale
    pixels = np.random.default_rng(seed).integers(0, top + 1, (*shape, channels)).astype(dtype)
    levels = prepare(pixels, contract)
    assert levels.shape == (40, 56, channels)
    assert levels.dtype == np.uint8
    apart = np.abs(levels.astype(int) - reference_levels(pixels, contract))
    assert apart.max() <= 2
    assert (apart > 1).mean() < 1e-3


@settings(deadline=None, max_examples=10)
@given(low=st.integers(0, 60000), width=st.integers(1, 5000))
def test_the_graphs_window_equals_numpys_at_every_stored_value(low: int, width: int) -> None:
    contract = spec(window=(low, min(65535, low + width)), height=256, width=256)
    stored = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    assert np.array_equal(prepare(stored, contract), to_levels(stored, contract))


def test_an_image_of_the_networks_size_keeps_its_levels(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (64, 48, 1), dtype=np.uint8)
    for resize in ("stretch", "letterbox"):
        assert np.array_equal(prepare(pixels, spec(dtype="uint8", resize=resize)), pixels)


def test_the_exported_file_prepares_bit_for_bit_as_training_does(exported: Exported, rng: np.random.Generator) -> None:
    model = onnx.load(exported.model)
    contract = Runner.open(exported.model).bundle.input
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("levels"))
    session: Any = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in [(72, 80), (1, 1), (33, 200), (301, 77)]:
        pixels = rng.integers(0, contract.full_scale + 1, (*shape, contract.channels)).astype(contract.dtype)
        inside = session.run(["levels"], {"image": pixels[np.newaxis]})[0][0].transpose(1, 2, 0)
        assert np.array_equal(inside, prepare(pixels, contract))
