"""Conditions of cameras in rooms and streets: night, shadow, fog, motion, distance, compression, occlusion."""

import cv2
import numpy as np

from imaging_ft.augment.conditions.fields import (
    DISPLAY_GAMMA,
    blob,
    filtered,
    like,
    line,
    polygon,
    radius,
    scale_of,
    shaped,
    signal,
    times,
    to_display,
    to_linear,
    white_noise,
)
from imaging_ft.augment.conditions.lighting import CAMERA_READ_NOISE
from imaging_ft.types import FloatImage

FOG_DISTANCE = 30.0
"""d: distance of the scene in fog, in metres."""
AIRLIGHT = 0.7
"""A: the fog's own brightness, in linear light."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray image (ITU-R BT.601)."""


def night_infrared(image: FloatImage, fall: float, rng: np.random.Generator) -> FloatImage:
    """Return the image by the camera's own infrared lamp: gray / (1 + fall r²) + N(0, σ) in linear light.

    r is 1 in the corners; `fall` is 1/r₀², r₀ being where the lamp's light is down to half. Below 1, as at dusk,
    colour fades with it and noise rises with it; σ is the camera's read noise.
    """
    if fall == 0:
        return image
    amount = np.float32(min(1.0, fall))
    source = signal(image)
    if source.shape[2] == 3:
        gray = shaped(image @ np.array(LUMINANCE, np.float32), image[:, :, :1])
        source = gray if amount == 1 else (image + amount * (gray - image)).astype(np.float32, copy=False)
    linear = times(to_linear(source), 1 / (1 + np.float32(fall) * np.square(radius(image))))
    noise = np.float32(CAMERA_READ_NOISE) * amount * white_noise(source[:, :, :1], rng)
    return like(image, to_display((linear + noise).astype(np.float32, copy=False)))


def shadow(image: FloatImage, lost: float, rng: np.random.Generator) -> FloatImage:
    """Return the image with a shadow over part of it: (1 − s M) of the linear light, M a soft polygon.

    Its edge crosses the image: one side of a line through its middle part, less a corner; both are drawn.
    """
    if lost == 0:
        return image
    height, width = image.shape[:2]
    size = np.hypot(width, height)
    direction = rng.uniform(0, 2 * np.pi)
    across, along = np.array([[np.cos(direction), np.sin(direction)], [-np.sin(direction), np.cos(direction)]])
    edge = rng.uniform(0.35, 0.65, 2) * (width, height)
    bend = edge + rng.uniform(-0.2, 0.2) * size * across
    far = size * (across + along), size * (across - along)
    mask = polygon(
        image, np.stack([edge - size * along, bend, edge + size * along, edge + far[0], edge + far[1]]), softness=0.012
    )
    return times(image, np.power(1 - np.float32(lost) * mask, np.float32(1 / DISPLAY_GAMMA)))


def fog(image: FloatImage, extinction: float, rng: np.random.Generator) -> FloatImage:  # noqa: ARG001
    """Return the image through 30 m of fog: I t + A (1 − t) in linear light, t = exp(−k d).

    Koschmieder's law. `extinction` is k in 1/m: 3 / MOR, the meteorological optical range at 5% contrast (WMO
    Guide to Instruments and Methods of Observation, no. 8).
    """
    if extinction == 0:
        return image
    through = np.float32(np.exp(-extinction * FOG_DISTANCE))
    return to_display(to_linear(image) * through + np.float32(AIRLIGHT) * (1 - through))


def motion(image: FloatImage, length: float, rng: np.random.Generator) -> FloatImage:
    """Return the image with camera or subject moving while it was exposed: a line `length` pixels long of 224.

    Linear light is averaged along a line whose direction is drawn.
    """
    if length == 0:
        return image
    kernel = line(length * scale_of(image), rng.uniform(0, 180))
    return to_display(filtered(to_linear(image), kernel))


def distance(image: FloatImage, scale: float, rng: np.random.Generator) -> FloatImage:  # noqa: ARG001
    """Return the subject from further away, at the same size: `scale` times as many pixels to a side.

    Each pixel is the mean over what it covers; the crop is brought back to its size bilinearly.
    """
    if scale >= 1:
        return image
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return shaped(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), image)


def compression(image: FloatImage, quality: float, rng: np.random.Generator) -> FloatImage:  # noqa: ARG001
    """Return the image after JPEG at a quality of libjpeg's scale (ITU-T T.81), in 8 bits; 100 changes nothing."""
    if quality >= 100:
        return image
    source = signal(image)
    levels = np.rint(source * 255).astype(np.uint8)
    stored = cv2.imencode(".jpg", levels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(quality)])[1]
    found = np.asarray(cv2.imdecode(stored, cv2.IMREAD_UNCHANGED)).reshape(levels.shape)[:, :, ::-1]
    return like(image, found.astype(np.float32) / np.float32(255))


def occlusion(image: FloatImage, share: float, rng: np.random.Generator) -> FloatImage:
    """Return the image with something opaque before it over `share` of the view, in a colour of the image itself."""
    if share == 0:
        return image
    height, width = image.shape[:2]
    mask = blob(image, rng, area=share)[:, :, np.newaxis]
    colour = image[int(rng.integers(height)), int(rng.integers(width))]
    return image + mask * (colour * np.float32(rng.uniform(0.4, 1.0)) - image)
