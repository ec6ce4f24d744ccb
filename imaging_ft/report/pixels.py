"""Measured conditions: what an image's pixels say of light, focus, noise and framing where no metadata does."""

from functools import reduce

import cv2
import numpy as np
import numpy.typing as npt

from imaging_ft.augment.conditions import to_float
from imaging_ft.types import FloatImage, Pixels

MEASURES: dict[str, str] = {
    "brightness": "brightness (mean, share of full scale)",
    "contrast": "contrast (RMS, share of full scale)",
    "clipped": "clipped pixels (share)",
    "sharpness": "sharpness (spread of the Laplacian over the image's own)",
    "noise": "noise (σ, share of full scale)",
    "colour_cast": "colour cast (CIELAB, distance from gray)",
    "border": "border (share of the image)",
}
"""The measures by name, with what they are and their unit."""

SIDE = 256
"""Sharpness is measured with the longer side brought to so many pixels, so that the image's own size matters little."""
_CAST_SIDE = 64
_DIGITS, _DECIMALS = 3, 6
_FRAME_SPREAD = 0.02
_FRAME_SHARE = 0.1
_ROUNDING = 1e-6
_SECOND_DIFFERENCES = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)

_Gray = npt.NDArray[np.float32]


def measure_pixels(pixels: Pixels, *, window: tuple[int, int] | None = None) -> dict[str, float]:
    """Return what an image [height, width, channels] measures, by the names of `MEASURES`, in three digits.

    Values are shares of the window, or of full scale; gray is ITU-R BT.601 luma. All but `border` speak of the
    picture inside the frame: padding or a collimator is neither dark nor sharp.

    - `border`: the share of the image in a frame at its sides: rows and columns, from the outside in, whose standard
      deviation, and whose distance from the outermost one's mean, are below 2% of full scale and a tenth of the
      image's contrast. 1 for an image of one value, whose other measures are those of the whole.
    - `brightness`: the mean.
    - `contrast`: the standard deviation, which is RMS contrast (Peli, JOSA A 1990).
    - `clipped`: the share of pixels at 0 in every channel, or at full scale in any.
    - `sharpness`: the standard deviation of the Laplacian (its variance measures focus: Pech-Pacheco et al., ICPR
      2000) over that of the image, so that it doesn't follow contrast; with the longer side at 256 pixels, and both
      after a Gaussian of one pixel, so that it hardly follows the image's size or its noise. 0 for one value.
    - `noise`: σ by the mean absolute response to the difference of two Laplacians, which lines and gradients hardly
      stir (Immerkær, Computer Vision and Image Understanding 1996), the mean of the channels, at the image's own size.
      Fine texture counts as noise, and clipped pixels hide it. NaN below 3 × 3 pixels.
    - `colour_cast`: the distance of the mean a* and b* from gray, in CIELAB of sRGB, to a tenth: about 2 can be seen.
      Three channels only.
    """
    image = to_float(pixels, window=window)
    gray = _gray(image)
    inside = _inside(gray)
    border = 1 - gray[inside].size / gray.size
    if border < 1:
        image, gray = image[inside], gray[inside]
    mean, spread = _mean_and_spread(gray)
    found = {
        "brightness": mean,
        "contrast": spread,
        "clipped": _clipped(image),
        "sharpness": _sharpness(gray),
        "noise": _noise(image),
    }
    if image.shape[2] == 3:
        found["colour_cast"] = round(_colour_cast(image), 1)
    found["border"] = border
    # More digits say nothing, and make the edges of bins hard to read.
    return {name: float(f"{round(value, _DECIMALS):.{_DIGITS}g}") for name, value in found.items()}


def _gray(image: FloatImage) -> _Gray:
    if image.shape[2] == 1:
        return image[:, :, 0]
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)


def _mean_and_spread(gray: _Gray) -> tuple[float, float]:
    mean, spread = cv2.meanStdDev(gray)
    return float(mean[0, 0]), float(spread[0, 0])


def _inside(gray: _Gray) -> tuple[slice, slice]:
    """Return the rows and columns of the picture inside its frame; none where there is only frame."""
    exact = gray.astype(np.float64)
    limit = min(_FRAME_SPREAD, _FRAME_SHARE * _mean_and_spread(gray)[1]) + _ROUNDING
    rows, columns = slice(0, gray.shape[0]), slice(0, gray.shape[1])
    for _ in range(2):  # a bar at one side may hide those above and below it
        before = rows, columns
        rows = _unframed(exact[rows, columns], rows.start, limit, axis=0)
        columns = _unframed(exact[rows, columns], columns.start, limit, axis=1)
        if before == (rows, columns):
            break
    return rows, columns


def _unframed(gray: npt.NDArray[np.float64], start: int, limit: float, *, axis: int) -> slice:
    """Return the lines along `axis` between the flat bars at both ends, counted from `start`; none if all are flat."""
    if not gray.size:
        return slice(0, 0)
    means = gray.mean(axis=1 - axis)
    squares = np.einsum(("ij,ij->i", "ij,ij->j")[axis], gray, gray) / gray.shape[1 - axis]
    busy = squares - np.square(means) > limit**2
    first = np.flatnonzero(busy | (np.abs(means - means[0]) > limit))
    last = np.flatnonzero(busy | (np.abs(means - means[-1]) > limit))
    if not len(first) or not len(last):
        return slice(0, 0)
    return slice(start + int(first[0]), start + int(last[-1]) + 1)


def _clipped(image: FloatImage) -> float:
    brightest = reduce(np.maximum, np.moveaxis(image, 2, 0))
    return float(np.count_nonzero((brightest <= 0) | (brightest >= 1)) / brightest.size)


def _sharpness(gray: _Gray) -> float:
    # A picture brought from 320 pixels to 256 has softer edges than one that came with 256; a light blur levels that.
    scaled = np.asarray(cv2.GaussianBlur(_scaled(gray, SIDE), (0, 0), 1), np.float32)
    spread = _mean_and_spread(scaled)[1]
    edges = _mean_and_spread(np.asarray(cv2.Laplacian(scaled, cv2.CV_32F), np.float32))[1]
    return edges / spread if spread > _ROUNDING else 0.0


def _noise(image: FloatImage) -> float:
    height, width, _ = image.shape
    if min(height, width) < 3:
        return float("nan")
    response = np.asarray(cv2.filter2D(image, cv2.CV_32F, _SECOND_DIFFERENCES)).reshape(image.shape)[1:-1, 1:-1]
    # 6 is the norm of the nine weights, and √(2/π) σ the mean of |N(0, σ)|.
    return float(np.sqrt(np.pi / 2) / 6 * cv2.norm(response, cv2.NORM_L1) / response.size)


def _colour_cast(image: FloatImage) -> float:
    lab = np.asarray(cv2.cvtColor(_scaled(image, _CAST_SIDE, enlarge=False), cv2.COLOR_RGB2LAB), np.float64)
    return float(np.hypot(*lab[:, :, 1:].mean(axis=(0, 1))))


def _scaled(image: FloatImage, side: int, *, enlarge: bool = True) -> FloatImage:
    """Return an image with its longer side at `side` pixels: by area averaging, or enlarged linearly."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale == 1 or (scale > 1 and not enlarge):
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=how), np.float32)
