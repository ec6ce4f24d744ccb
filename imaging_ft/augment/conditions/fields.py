"""What conditions are made of: places on the image, noise, smooth fields, kernels, shapes.

Lengths in pixels are given for an image whose longer side has 224, and grow with it: a condition is the same
change of the scene at any resolution.
"""

import cv2
import numpy as np

from imaging_ft.types import FloatImage

REFERENCE_SIDE = 224
"""The longer side for which lengths in pixels are stated."""
DISPLAY_GAMMA = 2.2
"""Camera images are stored in a display gamma; light is linear in I^2.2."""

Field = np.ndarray
"""One value a pixel: [height, width] float32."""


def scale_of(image: FloatImage) -> float:
    """Return how many pixels of the image one pixel of the reference is."""
    return max(image.shape[:2]) / REFERENCE_SIDE


def places(image: FloatImage) -> tuple[Field, Field]:
    """Return x [1, width] and y [height, 1] of every pixel, −1 to 1 from edge to edge."""
    height, width = image.shape[:2]
    x = (2 * np.arange(width, dtype=np.float32) + 1) / width - 1
    y = (2 * np.arange(height, dtype=np.float32) + 1) / height - 1
    return x[np.newaxis], y[:, np.newaxis]


def radius(image: FloatImage) -> Field:
    """Return the distance of every pixel from the middle, 1 in the corners."""
    height, width = image.shape[:2]
    x, y = places(image)
    return np.sqrt(np.square(x * width) + np.square(y * height)) / np.float32(np.hypot(width, height))


def signal(image: FloatImage) -> FloatImage:
    """Return the channels that were counted each by itself: one of a gray image that is stored as three."""
    gray = image[:, :, :1]
    return gray if np.array_equal(image, np.broadcast_to(gray, image.shape)) else image


def like(image: FloatImage, changed: np.ndarray) -> FloatImage:
    """Return a changed signal, clipped to [0, 1], with the channels of the image."""
    clipped = np.clip(changed.reshape(*image.shape[:2], -1), 0, 1)
    return np.ascontiguousarray(np.broadcast_to(clipped, image.shape), dtype=np.float32)


def shaped(found: np.ndarray, image: FloatImage) -> FloatImage:
    """Return what OpenCV made of an image with the channel axis that it drops from one-channel images."""
    return found.reshape(image.shape).astype(np.float32, copy=False)


def times(image: FloatImage, gain: Field) -> FloatImage:
    """Return the image under a gain [height, width], clipped to [0, 1]."""
    return np.clip(image * gain[:, :, np.newaxis], 0, 1).astype(np.float32, copy=False)


def to_linear(image: FloatImage) -> FloatImage:
    """Return display values as linear light."""
    return shaped(cv2.pow(image, DISPLAY_GAMMA), image)


def to_display(linear: FloatImage) -> FloatImage:
    """Return linear light as display values; what lies outside [0, 1] is clipped first."""
    return shaped(cv2.pow(np.clip(linear, 0, 1), 1 / DISPLAY_GAMMA), linear)


def field_of_view(image: FloatImage) -> Field:
    """Return where the image shows something, 1, and where it's black all around, 0: beyond a round field, a sector."""
    height, width = image.shape[:2]
    step = max(height, width) / 56
    seen = (image.max(axis=2) > 0.02).astype(np.float32)
    small = cv2.resize(seen, (max(1, round(width / step)), max(1, round(height / step))), interpolation=cv2.INTER_AREA)
    # Closed over an eighth of the image, with the outside taken for black: dark structures lie within the field.
    reach = 7
    padded = cv2.copyMakeBorder(small, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=0)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[reach:-reach, reach:-reach]
    return cv2.resize(closed, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)


def white_noise(image: FloatImage, rng: np.random.Generator) -> FloatImage:
    """Return standard normal noise, independent from pixel to pixel and from channel to channel."""
    return rng.standard_normal(image.shape, dtype=np.float32)


def grain(image: FloatImage, rng: np.random.Generator, *, fine: float, coarse: float | None = None) -> FloatImage:
    """Return normal noise of standard deviation 1 between two scales (Gaussians' σ in pixels).

    White noise is smoothed by `fine`, and what `coarse` would leave of it is taken away.
    """
    white = white_noise(image, rng)
    kernel = _gaussian(fine) if coarse is None else _gaussian(fine, size=_size(coarse)) - _gaussian(coarse)
    smooth = cv2.GaussianBlur(white, (0, 0), fine, borderType=cv2.BORDER_REFLECT)
    if coarse is not None:
        smooth = smooth - cv2.GaussianBlur(white, (0, 0), coarse, borderType=cv2.BORDER_REFLECT)
    return shaped(smooth / np.float32(np.sqrt(np.square(kernel).sum())), image)


def blurred(image: FloatImage, sigma: float) -> FloatImage:
    """Return the image under a wide Gaussian blur of σ pixels, made on a smaller copy where nothing is lost."""
    height, width = image.shape[:2]
    step = max(1.0, sigma / 6)
    small = cv2.resize(image, (max(1, round(width / step)), max(1, round(height / step))), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(small, (0, 0), sigma / step, borderType=cv2.BORDER_REFLECT)
    return shaped(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_CUBIC), image)


def filtered(image: FloatImage, kernel: np.ndarray) -> FloatImage:
    """Return the image filtered with a kernel whose sum is made 1; the border is mirrored."""
    kernel = (kernel / kernel.sum()).astype(np.float32)
    return shaped(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), image)


def disc(reach: float) -> np.ndarray:
    """Return the kernel of a disc of a radius in pixels: the mean over it of bilinear interpolation; at 0 one pixel."""
    steps = max(6, int(np.ceil(2 * reach)))
    y, x = np.mgrid[-steps : steps + 1, -steps : steps + 1] / steps
    inside = np.hypot(x, y) <= 1
    return _splatted(reach * x[inside], reach * y[inside])


def line(length: float, degrees: float) -> np.ndarray:
    """Return the kernel of a line of a length in pixels, as `disc` is of a disc; at 0 one pixel."""
    along = np.linspace(-length / 2, length / 2, 2 * int(np.ceil(length)) + 9)
    return _splatted(along * np.cos(np.radians(degrees)), along * np.sin(np.radians(degrees)))


def blob(image: FloatImage, rng: np.random.Generator, *, area: float) -> Field:
    """Return a mask, 0 to 1 over a soft edge, of an irregular shape that covers a share of the image.

    It lies wholly within the image, where it fits, at a place that is drawn.
    """
    height, width = image.shape[:2]
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    # A closed curve of low frequencies around an ellipse, r = 1 + Σ a_k cos(k φ + ψ_k), scaled to its area.
    ripple = sum(rng.uniform(0, 0.25 / k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    stretch = np.exp(rng.uniform(-0.35, 0.35))
    x, y = (1 + ripple) * np.cos(angles) * stretch, (1 + ripple) * np.sin(angles) / stretch
    unit = 0.5 * abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))))
    size = np.sqrt(area * height * width / unit)
    reach_x, reach_y = size * np.abs(x).max(), size * np.abs(y).max()
    centre_x = rng.uniform(min(reach_x, width / 2), max(width - reach_x, width / 2))
    centre_y = rng.uniform(min(reach_y, height / 2), max(height - reach_y, height / 2))
    corners = np.stack([centre_x + size * x, centre_y + size * y], axis=1)
    return polygon(image, corners, softness=0.004)


def polygon(image: FloatImage, corners: np.ndarray, *, softness: float) -> Field:
    """Return a mask of a polygon [n, 2] (x, y in pixels), blurred by a share of the longer side."""
    mask = np.zeros(image.shape[:2], np.uint8)
    shift = 4  # bits of a fraction of a pixel
    points = np.rint((corners - 0.5) * 2**shift).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, lineType=cv2.LINE_AA, shift=shift)
    return cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), max(0.3, softness * max(image.shape[:2])))


def _splatted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return a kernel with equal weights at places [n] about its middle, each shared among the four nearest pixels."""
    half = int(np.ceil(max(np.abs(x).max(), np.abs(y).max()))) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for right, below in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = np.abs(1 - right - (x - left)) * np.abs(1 - below - (y - top))
        np.add.at(kernel, (half + top + below, half + left + right), weight)
    return kernel / len(x)


def _gaussian(sigma: float, *, size: int | None = None) -> np.ndarray:
    one = cv2.getGaussianKernel(size or _size(sigma), sigma)
    return one @ one.T


def _size(sigma: float) -> int:
    return 2 * int(np.ceil(4 * sigma)) + 1
