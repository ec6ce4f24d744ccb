"""Conditions on the lighting axis: exposure of a radiograph, fields of an MR scanner, light on a camera.

Every function takes an image [height, width, channels] of float32 in [0, 1] (for a radiograph the displayed
detector signal) and returns one of the same shape in [0, 1].
"""

import cv2
import numpy as np

from imaging_ft.augment.conditions.fields import DISPLAY_GAMMA, like, signal
from imaging_ft.types import FloatImage

FULL_SCALE_PHOTONS = 1000.0
"""N0: photons per pixel at full scale and target exposure; a pixel here is a millimetre or so of detector."""
CAMERA_ELECTRONS = 2000.0
"""Q: electrons per pixel at full scale of a small camera sensor."""
CAMERA_READ_NOISE = 0.004
"""Standard deviation of the read noise, as a fraction of full scale (8 of 2000 electrons)."""


def low_dose(image: FloatImage, index: float, rng: np.random.Generator) -> FloatImage:
    """Return the image at a lower detector exposure: Poisson(N0 k I) / (N0 k), k = 10^(DI / 10).

    `index` is the deviation index DI in dB (IEC 62494-1); 0 is on target and changes nothing.
    """
    if index >= 0:
        return image
    photons = FULL_SCALE_PHOTONS * 10 ** (index / 10)
    return like(image, np.clip(rng.poisson(signal(image) * photons) / photons, 0, 1))


def over_exposure(image: FloatImage, index: float, rng: np.random.Generator) -> FloatImage:  # noqa: ARG001
    """Return the image with its detector saturating: min(k I, 1), k = 10^(DI / 10) (IEC 62494-1)."""
    return np.minimum(image * np.float32(10 ** (index / 10)), np.float32(1))


def power(image: FloatImage, gamma: float, rng: np.random.Generator) -> FloatImage:  # noqa: ARG001
    """Return I^γ: a transmission after a change of path length or of effective attenuation by the factor γ.

    Beer–Lambert: I = exp(−μl), so I^γ = exp(−γμl). γ < 1 is a higher tube voltage (less attenuation), γ > 1
    denser shielding of the same shape.
    """
    return np.power(image, np.float32(gamma))


def window_shift(image: FloatImage, shift: float, rng: np.random.Generator) -> FloatImage:
    """Return the image under a display window whose centre is off by ±`shift` of full scale."""
    if shift == 0:
        return image
    return np.clip(image - np.float32(shift if rng.random() < 0.5 else -shift), 0, 1)


def bias_field(image: FloatImage, strength: float, rng: np.random.Generator) -> FloatImage:
    """Return the image under a smooth multiplicative receive field: I exp(Σ c_ij P_i(x) P_j(y)), i + j ≤ 3.

    The coefficients are uniform in ±`strength`, P are Legendre polynomials (Sudre et al. 2017, as in MONAI's
    RandBiasField); the field has mean 1, so that overall brightness stays.
    """
    if strength == 0:
        return image
    height, width = image.shape[:2]
    degree = 3
    coefficients = rng.uniform(-strength, strength, (degree + 1, degree + 1))
    coefficients[np.add.outer(range(degree + 1), range(degree + 1)) > degree] = 0
    coefficients[0, 0] = 0
    field = np.exp(
        np.polynomial.legendre.leggrid2d(np.linspace(-1, 1, height), np.linspace(-1, 1, width), coefficients)
    )
    field /= field.mean()
    return np.clip(image * field[:, :, np.newaxis], 0, 1).astype(np.float32)


def low_light(image: FloatImage, stops: float, rng: np.random.Generator) -> FloatImage:
    """Return a camera image with `stops` less light: Poisson(Q 2^−e I) / Q + N(0, σ) in linear light."""
    if stops == 0:
        return image
    linear = np.power(signal(image), np.float32(DISPLAY_GAMMA)) * np.float32(2.0**-stops)
    counted = rng.poisson(linear * CAMERA_ELECTRONS) / CAMERA_ELECTRONS
    noisy = counted + rng.normal(0, CAMERA_READ_NOISE, linear.shape)
    return like(image, np.power(np.clip(noisy, 0, 1), 1 / DISPLAY_GAMMA))


def back_light(image: FloatImage, stops: float, rng: np.random.Generator) -> FloatImage:
    """Return a camera image lit from behind: the middle `stops`/2 darker, the surround as much brighter.

    The mask between them is a smooth ellipse about a centre drawn near the middle; light is linear.
    """
    if stops == 0:
        return image
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    centre = rng.uniform(0.4, 0.6, 2)
    radius = np.hypot((y / height - centre[0]) / 0.35, (x / width - centre[1]) / 0.35)
    outside = 1 / (1 + np.exp(-(radius - 1) * 6))
    gain = np.exp2((outside * 2 - 1) * stops / 2)[:, :, np.newaxis].astype(np.float32)
    linear = np.power(image, np.float32(DISPLAY_GAMMA)) * gain
    return np.power(np.clip(linear, 0, 1), np.float32(1 / DISPLAY_GAMMA))


def glare(image: FloatImage, strength: float, rng: np.random.Generator) -> FloatImage:
    """Return the image with a light spot added: I + g exp(−r² / 2σ²), σ a quarter of the shorter side."""
    if strength == 0:
        return image
    height, width = image.shape[:2]
    spot = np.zeros((height, width), np.float32)
    spot[int(rng.integers(height)), int(rng.integers(width))] = 1
    sigma = min(height, width) / 4
    distance = cv2.distanceTransform((1 - spot).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    added = np.float32(strength) * np.exp(-np.square(distance) / (2 * sigma**2))
    return np.clip(image + added[:, :, np.newaxis], 0, 1).astype(np.float32)
