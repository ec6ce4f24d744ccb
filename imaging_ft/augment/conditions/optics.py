"""Conditions of microscopes, endoscopes and fundus cameras: focus, the light's fall-off, veils, what lies before it.

Gains on light are stated for linear light and laid over display values I as gain^(1/2.2), which is the same.
"""

import cv2
import numpy as np

from imaging_ft.augment.conditions.fields import (
    DISPLAY_GAMMA,
    Field,
    blob,
    disc,
    field_of_view,
    filtered,
    places,
    radius,
    scale_of,
    shaped,
    signal,
    times,
)
from imaging_ft.types import FloatImage

VEIL = 0.8
"""A: the veil's own brightness."""
HED = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
"""Optical densities in red, green and blue of haematoxylin, eosin and DAB (Ruifrok & Johnston 2001)."""


def defocus(image: FloatImage, reach: float, rng: np.random.Generator) -> FloatImage:  # noqa: ARG001
    """Return the image out of focus: each point a disc of radius `reach`, in pixels of 224 over the longer side.

    The blur of geometrical optics (Hopkins, Proceedings of the Royal Society A 1955).
    """
    return filtered(image, disc(reach * scale_of(image))) if reach else image


def vignette(image: FloatImage, degrees: float, rng: np.random.Generator) -> FloatImage:  # noqa: ARG001
    """Return the image darker away from its middle: light falls with cos⁴ θ, θ = `degrees` in the corners.

    tan θ grows with the distance from the middle, so that cos⁴ θ = 1 / (1 + r² tan² θ_corner)².
    """
    slope = np.square(np.tan(np.radians(degrees)))
    light = 1 / np.square(1 + np.float32(slope) * np.square(radius(image)))
    return times(image, np.power(light, np.float32(1 / DISPLAY_GAMMA)))


def illumination_gradient(image: FloatImage, strength: float, rng: np.random.Generator) -> FloatImage:
    """Return the image lit from one side: I (1 + g u), u from −1 to 1 across the image in a drawn direction."""
    if strength == 0:
        return image
    direction = rng.uniform(0, 2 * np.pi)
    x, y = places(image)
    cosine, sine = np.cos(direction), np.sin(direction)
    across = (x * cosine + y * sine) / (abs(cosine) + abs(sine))
    return times(image, (1 + strength * across).astype(np.float32))


def haze(image: FloatImage, lost: float, rng: np.random.Generator) -> FloatImage:  # noqa: ARG001
    """Return the image behind a veil: t I + (1 − t) A, t = 1 − `lost`: smoke, a cloudy lens, reverberation.

    Koschmieder's law at one depth. A is 0.8; what lies outside a round field or a sector stays black.
    """
    if lost == 0:
        return image
    veil = np.float32(lost) * field_of_view(image)[:, :, np.newaxis]
    return (image + veil * (np.float32(VEIL) - image)).astype(np.float32, copy=False)


def specular(image: FloatImage, share: float, rng: np.random.Generator) -> FloatImage:
    """Return the image with the light's own reflections: two to six white spots over `share` of the image."""
    if share == 0:
        return image
    spots = _spots(image, share, rng)
    return image + spots[:, :, np.newaxis] * (1 - image)


def bubble(image: FloatImage, share: float, rng: np.random.Generator) -> FloatImage:
    """Return the image under two to six air bubbles over `share` of it: a dark rim, a bright spot within.

    Light that meets the rim at a shallow angle is refracted out of the view.
    """
    if share == 0:
        return image
    height, width = image.shape[:2]
    changed = image.copy()
    for part in _parts(rng):
        size = np.sqrt(part * share * height * width / np.pi)
        centre = rng.uniform((0, 0), (width, height))
        first, last = np.maximum(0, np.floor(centre - 1.3 * size)), np.ceil(centre + 1.3 * size) + 1
        rows, columns = slice(int(first[1]), int(last[1])), slice(int(first[0]), int(last[0]))
        part_seen = changed[rows, columns]
        y, x = np.mgrid[rows, columns][:, : part_seen.shape[0], : part_seen.shape[1]] + 0.5
        apart = np.hypot(x - centre[0], y - centre[1]) / size
        lit = np.hypot(x - centre[0] + size / 3, y - centre[1] + size / 3) / size
        gain = (1 - 0.75 * np.exp(-np.square((apart - 0.85) / 0.12))) * np.where(apart < 0.8, 1.08, 1)
        spot = 0.8 * np.exp(-np.square(lit / 0.15))
        changed[rows, columns] = part_seen * gain[:, :, np.newaxis] + spot[:, :, np.newaxis]
    return np.clip(changed, 0, 1)


def black_corner(image: FloatImage, lost: float, rng: np.random.Generator) -> FloatImage:  # noqa: ARG001
    """Return the image in a round field: black beyond 1 − `lost` of the way from the middle to the corners."""
    if lost == 0:
        return image
    edge = np.float32(0.01)
    return times(image, np.clip((np.float32(1 - lost) - radius(image)) / edge + np.float32(0.5), 0, 1))


def stain(image: FloatImage, spread: float, rng: np.random.Generator) -> FloatImage:
    """Return a stained section prepared elsewhere: each stain's density α d + β, α in 1 ± `spread`, β in ± `spread`/2.

    Colours are divided into stains by their optical densities (Ruifrok & Johnston, Analytical and Quantitative
    Cytology and Histology 2001) and varied as by Tellez et al. (IEEE Transactions on Medical Imaging 2018). A gray
    image stored in three channels has no stain, and stays as it is. Takes three channels.
    """
    if spread == 0 or signal(image).shape[2] == 1:
        return image
    mixed = HED / np.linalg.norm(HED, axis=1, keepdims=True)
    density = -cv2.log(np.maximum(image, np.float32(1 / 255)))
    scale, shift = 1 + rng.uniform(-spread, spread, 3), rng.uniform(-spread, spread, 3) / 2
    # Densities are linear: un-mix, scale and mix again are one 3 x 3 matrix, and the shift one colour.
    change = np.linalg.inv(mixed) @ np.diag(scale) @ mixed
    varied = cv2.transform(density, np.hstack([change.T, (shift @ mixed)[:, np.newaxis]]).astype(np.float32))
    return shaped(np.clip(cv2.exp(-varied), 0, 1), image)


def _parts(rng: np.random.Generator) -> np.ndarray:
    """Return two to six shares that make 1."""
    sizes = rng.uniform(0.3, 1, int(rng.integers(2, 7)))
    return sizes / sizes.sum()


def _spots(image: FloatImage, share: float, rng: np.random.Generator) -> Field:
    spots = np.zeros(image.shape[:2], np.float32)
    for part in _parts(rng):
        spots = np.maximum(spots, blob(image, rng, area=part * share))
    return spots
