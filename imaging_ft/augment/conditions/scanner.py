"""Conditions of MR and CT slices: noise, k-space, motion between phase encodings, display windows.

An image [height, width, channels] is the displayed slice in [0, 1]; of a CT slice that is a window of
`CT_WINDOW` Hounsfield units.
"""

import numpy as np

from imaging_ft.augment.conditions.fields import grain, like, places, signal, white_noise
from imaging_ft.augment.conditions.lighting import window_shift
from imaging_ft.types import FloatImage

CT_WINDOW = 400.0
"""Width of the display window that an image of [0, 1] is taken to show, in HU: soft tissue's."""
CT_NOISE = 10.0
"""σ0: standard deviation of the noise of a slice at full dose, in HU."""


def rician_noise(image: FloatImage, sigma: float, rng: np.random.Generator) -> FloatImage:
    """Return a magnitude image with more noise in both of its parts: √((I + n₁)² + n₂²), n ~ N(0, σ).

    Where there is no signal this is Rayleigh noise of mean 1.25 σ: the background rises (Gudbjartsson & Patz,
    Magnetic Resonance in Medicine 1995).
    """
    if sigma == 0:
        return image
    source = signal(image)
    real, imaginary = (np.float32(sigma) * white_noise(source, rng) for _part in range(2))
    return like(image, np.hypot(source + real, imaginary))


def gibbs(image: FloatImage, share: float, rng: np.random.Generator) -> FloatImage:  # noqa: ARG001
    """Return the magnitude of the image after the outer `share` of k-space, along each axis, was not measured.

    Edges ring and blur (Gibbs; as MONAI's GibbsNoise, which cuts a disc instead of a rectangle).
    """
    if share == 0:
        return image
    source = signal(image)
    height, width = source.shape[:2]
    measured = np.fft.rfft2(source, axes=(0, 1))
    measured[np.abs(np.fft.fftfreq(height)) > 0.5 * (1 - share)] = 0
    measured[:, np.fft.rfftfreq(width) > 0.5 * (1 - share)] = 0
    return like(image, np.abs(np.fft.irfft2(measured, s=(height, width), axes=(0, 1))))


def spike(image: FloatImage, amplitude: float, rng: np.random.Generator) -> FloatImage:
    """Return the magnitude of the image with a spike in k-space: |I + a cos(2π(ux + vy) + φ)|.

    One wrong point of k-space is a plane wave over the image. Its frequency, 5 to 30 waves over the longer side,
    its direction and φ are drawn (as MONAI's KSpaceSpikeNoise; herringbone artefact).
    """
    if amplitude == 0:
        return image
    height, width = image.shape[:2]
    waves = min(rng.uniform(5, 30), 0.4 * max(height, width))
    direction, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    x, y = places(image)
    per_pixel = np.pi * waves / max(height, width)
    across = per_pixel * np.cos(direction) * width * x + per_pixel * np.sin(direction) * height * y
    wave = np.float32(amplitude) * np.cos(across + phase).astype(np.float32)
    return np.clip(np.abs(image + wave[:, :, np.newaxis]), 0, 1)


def motion_ghost(image: FloatImage, strength: float, rng: np.random.Generator) -> FloatImage:
    """Return the slice of a patient who moves periodically: (1 − a) I + a/2 (I shifted forward + I shifted back).

    A modulation of k-space's lines along the phase encoding repeats the image along that axis, wrapped around
    (Wood & Henkelman, Medical Physics 1985). The axis and the shift, a tenth to four tenths, are drawn.
    """
    if strength == 0:
        return image
    axis = int(rng.integers(2))
    shift = max(1, round(rng.uniform(0.1, 0.4) * image.shape[axis]))
    ghosts = (np.roll(image, shift, axis) + np.roll(image, -shift, axis)) / np.float32(2)
    return np.clip(image + np.float32(strength) * (ghosts - image), 0, 1).astype(np.float32, copy=False)


def window_centre(image: FloatImage, units: float, rng: np.random.Generator) -> FloatImage:
    """Return a CT slice under a display window whose centre is off by ±`units` HU (`lighting.window_shift`)."""
    return window_shift(image, units / CT_WINDOW, rng)


def window_width(image: FloatImage, octaves: float, rng: np.random.Generator) -> FloatImage:
    """Return the image under a display window 2^±`octaves` times as wide: clip(½ + (I − ½) / factor).

    Narrower is more contrast, with both ends clipped; wider is less (DICOM PS3.3 C.11.2.1.2, LINEAR). The sign
    is drawn.
    """
    if octaves == 0:
        return image
    slope = np.float32(2.0 ** (octaves if rng.random() < 0.5 else -octaves))
    return np.clip(np.float32(0.5) + (image - np.float32(0.5)) * slope, 0, 1)


def dose_noise(image: FloatImage, dose: float, rng: np.random.Generator) -> FloatImage:
    """Return a CT slice at a share of its dose: noise of variance σ0² (1/dose − 1) is added to what it has.

    Noise goes with 1/√dose (Brooks & Di Chiro, Medical Physics 1976), and filtered back-projection takes its low
    frequencies away (Kijewski & Judy, Physics in Medicine & Biology 1987): here a band between Gaussians of 0.6
    and 2 pixels.
    """
    if dose >= 1:
        return image
    source = signal(image)
    sigma = CT_NOISE / CT_WINDOW * np.sqrt(1 / dose - 1)
    return like(image, source + np.float32(sigma) * grain(source, rng, fine=0.6, coarse=2.0))
