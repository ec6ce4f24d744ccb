"""One pass over the image files: size, light, sharpness, colour, and a perceptual hash of each."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from imaging_ft.data import Prepared, Sample, input_spec
from imaging_ft.image import read_image
from imaging_ft.preprocess import InputSpec, conform, to_levels
from imaging_ft.types import Ints, Levels, Pixels, Track

THUMB = 32
"""Side of the gray picture that the hash is made of."""
_LOW = 8
_LONG_SIDE = 256
_EMPTY_LEVELS = 20
"""Of 255: above the noise of a scanner's air, and of JPEG."""
_EMPTY_SHARE = 0.01
"""Of the pixels in a row or column: a speck of dust doesn't fill it."""
_SAME_CHANNEL = 3
"""Gray photographs that were stored as colour JPEG differ by a level or two between channels."""

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Measures:
    """What was measured on n images, in the data set's order."""

    sizes: Ints
    """[n, 2]: height and width in pixels."""
    brightness: npt.NDArray[np.float64]
    """[n]: mean level, 0 (black) to 1 (white), after the window."""
    contrast: npt.NDArray[np.float64]
    """[n]: standard deviation of the levels, as a fraction of full scale."""
    sharpness: npt.NDArray[np.float64]
    """[n]: standard deviation of the Laplacian over that of the image, at 256 pixels at most; 0 for a flat one.

    The Laplacian's variance measures focus (Pech-Pacheco et al. 2000); over the image's own it doesn't follow
    contrast.
    """
    colour: npt.NDArray[np.bool_]
    """[n]: whether the channels differ."""
    channels: Ints
    """[n]: channels in the file, 1 or 3."""
    dead_channels: Ints
    """[n]: how many channels of three are constant while another isn't."""
    low: npt.NDArray[np.float64]
    """[n]: 1st percentile of the stored values, as a fraction of full scale, before any window."""
    high: npt.NDArray[np.float64]
    """[n]: 99th percentile of the same."""
    hashes: Hashes
    """[n]: 64-bit perceptual hash."""
    thumbs: Levels
    """[n, 32, 32]: gray."""
    margins: npt.NDArray[np.float64]
    """[n, 4]: empty rows above and below, empty columns left and right, as shares of the height and the width."""

    def __len__(self) -> int:
        return len(self.hashes)


def measure(data: Prepared, track: Track) -> Measures:
    """Return what every image of a data set measures; the files are read side by side."""
    spec = input_spec(data)

    def work(sample: Sample) -> tuple[object, ...]:
        return measure_image(read_image(sample.path), spec)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        rows = list(track(pool.map(work, data.samples), "measuring images", len(data.samples)))
    columns = zip(*rows, strict=True)
    sizes, brightness, contrast, sharpness, colour, channels, dead, low, high, hashes, thumbs, margins = columns
    return Measures(
        np.array(sizes, np.int64),
        np.array(brightness, np.float64),
        np.array(contrast, np.float64),
        np.array(sharpness, np.float64),
        np.array(colour, np.bool_),
        np.array(channels, np.int64),
        np.array(dead, np.int64),
        np.array(low, np.float64),
        np.array(high, np.float64),
        np.array(hashes, np.uint64),
        np.stack([np.asarray(thumb, np.uint8) for thumb in thumbs]),
        np.array(margins, np.float64),
    )


def measure_image(pixels: Pixels, spec: InputSpec) -> tuple[object, ...]:
    """Return what one stored image [height, width, channels] measures, in the order of `Measures`."""
    height, width, channels = pixels.shape
    full = float(np.iinfo(pixels.dtype).max)
    reduced = _reduce(pixels, _LONG_SIDE)
    low, high = np.percentile(reduced, (1, 99)) / full
    # In the data set's depth, as training sees them, but in the file's own channels.
    own = spec.model_copy(update={"channels": channels})
    levels = to_levels(conform(reduced, own), own)
    gray = to_gray(levels)
    spans = np.ptp(levels, axis=(0, 1))
    spread = float(gray.std())
    edges = float(cv2.Laplacian(gray, cv2.CV_32F).std())
    thumb = np.asarray(cv2.resize(gray, (THUMB, THUMB), interpolation=cv2.INTER_AREA), np.float32)
    apart = int(np.ptp(levels.astype(np.int16), axis=2).max(initial=0))  # 0 with one channel
    return (
        (height, width),
        float(gray.mean()) / 255,
        spread / 255,
        edges / spread if spread > 0 else 0.0,
        apart > _SAME_CHANNEL,
        channels,
        int((spans == 0).sum()) if spans.max(initial=0) > 0 else 0,
        low,
        high,
        perceptual_hash(thumb),
        np.rint(thumb).astype(np.uint8),
        _margins(gray),
    )


def _margins(gray: npt.NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Return how much of a gray picture [height, width] is empty above, below, left and right, as shares of it.

    A row or column is empty where hardly a pixel is further than `_EMPTY_LEVELS` from the corners' median level.
    """
    corners = np.median([gray[0, 0], gray[0, -1], gray[-1, 0], gray[-1, -1]])
    shown = np.abs(gray - corners) > _EMPTY_LEVELS
    found: list[float] = []
    for axis in (1, 0):
        filled = np.flatnonzero(shown.mean(axis=axis) > _EMPTY_SHARE)
        length = gray.shape[1 - axis]
        found += [filled[0] / length, 1 - (filled[-1] + 1) / length] if len(filled) else [0.5, 0.5]
    return found[0], found[1], found[2], found[3]


def perceptual_hash(thumb: npt.NDArray[np.float32]) -> int:
    """Return the 64-bit hash of a gray picture [32, 32]: the signs of its low frequencies about their median.

    The method of pHash (Zauner 2010): the 8 × 8 lowest frequencies of the cosine transform. The mean (the first
    coefficient) isn't part of the median, so that light hardly changes the hash.
    """
    low = cv2.dct(np.asarray(thumb, np.float32))[:_LOW, :_LOW].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def to_gray(levels: Levels) -> npt.NDArray[np.float32]:
    """Return levels [height, width, channels] as gray [height, width], by ITU-R BT.601 luma."""
    if levels.shape[2] == 1:
        return levels[:, :, 0].astype(np.float32)
    return levels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _reduce(pixels: Pixels, side: int) -> Pixels:
    """Return an image no longer than `side` pixels, by area averaging; a smaller one as it is."""
    height, width, channels = pixels.shape
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), pixels.dtype)
    return reduced.reshape(size[1], size[0], channels)
