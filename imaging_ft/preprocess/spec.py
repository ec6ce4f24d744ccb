"""What a model's input is, and each of its steps in NumPy and Pillow: the reference for the graph."""

from typing import Annotated, Literal, Self

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from imaging_ft.config import Frozen
from imaging_ft.types import Levels, Pixels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

INPUT = "image"
"""The tensor that takes stored images: [batch, height, width, channels]."""
LEVELS = "levels"
"""The tensor of what the network sees: [batch, channels, height, width], integers from 0 to 255."""

_STRIP = 64
"""Rows that are made gray at a time."""

Triple = tuple[float, float, float]


class InputSpec(Frozen):
    """What an exported model takes, and what its graph does with it."""

    channels: Literal[1, 3] = 3
    """1 (gray) or 3 (RGB). The network itself always sees three: a gray image is repeated."""
    dtype: Literal["uint8", "uint16"] = "uint8"
    height: Annotated[int, Field(ge=32, le=4096)] = 160
    """Height that the network sees, in pixels; an input image may have any."""
    width: Annotated[int, Field(ge=32, le=4096)] = 160
    layout: Literal["NHWC"] = "NHWC"
    window: tuple[int, int] | None = None
    """Stored values that become level 0 and level 255; uint16 only; null is the full range 0 to 65535."""
    resize: Literal["stretch", "letterbox"] = "stretch"
    """Bilinear with antialias on integer levels, equal to Pillow's within two levels; letterbox pads with 0."""
    mean: Triple = IMAGENET_MEAN
    """Subtracted after the levels were scaled to [0, 1], by network channel."""
    std: Triple = IMAGENET_STD

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.window is None:
            return self
        if self.dtype != "uint16":
            raise ValueError("a window is for uint16 images only; leave it out for uint8")
        low, high = self.window
        if not 0 <= low < high <= 65535:
            raise ValueError(f"window {self.window} must be LOW < HIGH within 0 to 65535")
        return self

    @property
    def full_scale(self) -> int:
        """The largest stored value: 255 or 65535."""
        return int(np.iinfo(self.dtype).max)


def conform(pixels: Pixels, spec: InputSpec) -> Pixels:
    """Return an image [height, width, channels] in the model's dtype and channels.

    Full scale stays full scale (8 to 16 bits: × 257; 16 to 8 bits: rounded division by 257). RGB becomes gray
    by ITU-R BT.601 luma, (299 R + 587 G + 114 B + 500) div 1000; gray becomes RGB by repetition.
    """
    if pixels.dtype.name != spec.dtype:
        pixels = _to_16(pixels) if spec.dtype == "uint16" else _to_8(pixels)
    if pixels.shape[2] == spec.channels:
        return pixels
    if spec.channels == 3:
        return np.repeat(pixels, 3, axis=2)
    # In integers: in floating point, which way a half rounds depends on the order of the sum, and so on the host.
    gray = np.empty((*pixels.shape[:2], 1), pixels.dtype)
    for top in range(0, len(pixels), _STRIP):  # so that a large image takes no more memory
        strip = pixels[top : top + _STRIP].astype(np.uint32)
        luma = strip[..., 0] * 299 + strip[..., 1] * 587 + strip[..., 2] * 114
        gray[top : top + _STRIP, :, 0] = (luma + 500) // 1000
    return gray


def to_levels(pixels: Pixels, spec: InputSpec) -> Levels:
    """Return an image in 256 levels [height, width, channels]: itself if uint8, windowed if uint16."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    low, scale = window_terms(spec)
    scaled = (pixels.astype(np.float32) - low) * scale
    return np.rint(np.clip(scaled, np.float32(0), np.float32(255))).astype(np.uint8)


def window_terms(spec: InputSpec) -> tuple[np.float32, np.float32]:
    """Return LOW and 255 / (HIGH − LOW) of the window in float32, as the exported graph holds them."""
    low, high = spec.window or (0, 65535)
    return np.float32(low), np.float32(255.0 / (high - low))


def resize_levels(levels: Levels, spec: InputSpec) -> Levels:
    """Return levels [height, width, channels] at the network's height and width, as Pillow resizes them."""
    height, width = levels.shape[:2]
    if spec.resize == "stretch":
        return _pillow(levels, spec.height, spec.width)
    inner_height, inner_width = letterbox(height, width, spec)
    canvas = np.zeros((spec.height, spec.width, levels.shape[2]), np.uint8)
    top, left = (spec.height - inner_height) // 2, (spec.width - inner_width) // 2
    inner = _pillow(levels, inner_height, inner_width)
    canvas[top : top + inner_height, left : left + inner_width] = inner
    return canvas


def letterbox(height: int, width: int, spec: InputSpec) -> tuple[int, int]:
    """Return the height and width of an image inside its letterbox, by integer arithmetic (half rounds up)."""
    if spec.width * height <= spec.height * width:
        return max(1, (height * spec.width + width // 2) // width), spec.width
    return spec.height, max(1, (width * spec.height + height // 2) // height)


def reference_levels(pixels: Pixels, spec: InputSpec) -> Levels:
    """Return a stored image as levels [height, width, channels] by NumPy and Pillow alone.

    `preprocess.prepare`, which training and the exported file share, is within two levels of it.
    """
    return resize_levels(to_levels(conform(pixels, spec), spec), spec)


def _pillow(levels: Levels, height: int, width: int) -> Levels:
    flat = levels[:, :, 0] if levels.shape[2] == 1 else levels
    # Rows first, as the graph does: for some tall images Pillow would begin with the columns, and round otherwise.
    rows = Image.fromarray(flat).resize((width, levels.shape[0]), Image.Resampling.BILINEAR)
    resized = rows.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8).reshape(height, width, levels.shape[2])


def _to_16(pixels: Pixels) -> Pixels:
    return pixels.astype(np.uint16) * np.uint16(257)


def _to_8(pixels: Pixels) -> Pixels:
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
