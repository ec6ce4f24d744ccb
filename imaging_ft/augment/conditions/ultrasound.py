"""Conditions of ultrasound: speckle, gain over depth, shadows. The probe is at the top, depth goes down."""

import numpy as np

from imaging_ft.augment.conditions.fields import grain, like, places, scale_of, signal, times
from imaging_ft.types import FloatImage


def speckle(image: FloatImage, sigma: float, rng: np.random.Generator) -> FloatImage:
    """Return the image under more speckle: I (1 + n), n ~ N(0, σ), its grain 0.7 pixels of 224 over the longer side.

    Interference of echoes within a resolution cell is multiplicative (Jain, Fundamentals of Digital Image
    Processing, 1989, §8.13).
    """
    if sigma == 0:
        return image
    source = signal(image)
    noise = grain(source, rng, fine=max(0.3, 0.7 * scale_of(image)))
    return like(image, source * (1 + np.float32(sigma) * noise))


def depth_gain(image: FloatImage, strength: float, rng: np.random.Generator) -> FloatImage:
    """Return the image under a wrong time-gain compensation: I (1 ± g z), z from −1 at the probe to 1 below.

    The sign is drawn.
    """
    if strength == 0:
        return image
    depth = places(image)[1]
    slope = np.float32(strength if rng.random() < 0.5 else -strength)
    return times(image, np.broadcast_to(1 + slope * depth, image.shape[:2]))


def acoustic_shadow(image: FloatImage, nepers: float, rng: np.random.Generator) -> FloatImage:
    """Return the image with a shadow behind something hard or gassy: I exp(−a) below it.

    Its place, its width (an eighth to a quarter of the image), its depth and its slant are drawn; sound is
    attenuated exponentially, and `nepers` is a, in the displayed signal.
    """
    if nepers == 0:
        return image
    x, y = places(image)
    centre, half = rng.uniform(-0.6, 0.6), rng.uniform(0.125, 0.25)
    top, slant = rng.uniform(-0.7, 0), rng.uniform(-0.3, 0.3)
    side = np.clip((half - np.abs(x - centre - slant * (y - top))) / 0.05 + 0.5, 0, 1)
    below = np.clip((y - top) / 0.05, 0, 1)
    return times(image, np.exp(-nepers * side * below).astype(np.float32))
