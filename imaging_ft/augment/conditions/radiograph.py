"""Conditions of projection radiography beyond exposure: scatter, grid, collimator, objects on the patient, detector.

An image [height, width, channels] is the detector's signal in [0, 1], bright where much radiation is; where a film's
display matters, which is the other way round (bones white), the docstring says so.
"""

import cv2
import numpy as np

from imaging_ft.augment.conditions.fields import REFERENCE_SIDE, Field, blurred, places, scale_of, times
from imaging_ft.types import FloatImage

SCATTER_WIDTH = 0.1
"""σ of the scatter kernel, as a share of the longer side: some centimetres on a film of 35."""
COLUMNS = REFERENCE_SIDE
"""Columns of the detector over the image's width."""
BLADE_TRANSMISSION = 0.02
"""What passes a collimator's blade."""


def scatter(image: FloatImage, fraction: float, rng: np.random.Generator) -> FloatImage:  # noqa: ARG001
    """Return the image with a fraction s of its signal scattered: (1 − s) I + s G_σ(I).

    The scatter of a thick object is a wide blur of the primary image (Seibert & Boone, Medical Physics 1988).
    """
    if fraction == 0:
        return image
    scattered = blurred(image, SCATTER_WIDTH * max(image.shape[:2]))
    return np.clip(image + np.float32(fraction) * (scattered - image), 0, 1).astype(np.float32, copy=False)


def grid_lines(image: FloatImage, amplitude: float, rng: np.random.Generator) -> FloatImage:
    """Return the image behind an anti-scatter grid that stands still: I (1 + a sin(2πfx + φ)).

    f is 20 to 50 lines over the longer side (the moiré that is left at a display's resolution), across or along;
    f and φ are drawn (Barski & Wang, SPIE 3658, 1999).
    """
    if amplitude == 0:
        return image
    longer = max(image.shape[:2])
    lines = min(rng.uniform(20, 50), 0.4 * longer)
    phase, across = rng.uniform(0, 2 * np.pi), rng.random() < 0.5
    along = np.arange(image.shape[1] if across else image.shape[0], dtype=np.float32)
    wave = 1 + np.float32(amplitude) * np.sin(2 * np.pi * lines / longer * along + phase).astype(np.float32)
    return times(image, wave[np.newaxis, :] if across else wave[:, np.newaxis])


def collimation(image: FloatImage, share: float, rng: np.random.Generator) -> FloatImage:
    """Return the image with the collimator's blades in the field: each side loses up to `share` of the image.

    A side loses half of it to all of it, drawn; beyond the blades a console shows black. The penumbra is half a
    percent of the longer side wide.
    """
    if share == 0:
        return image
    height, width = image.shape[:2]
    penumbra = np.float32(max(0.5, 0.005 * max(height, width)))
    left, right, top, bottom = rng.uniform(0.5, 1.0, 4) * share

    def opened(size: int, low: float, high: float) -> Field:
        at = np.arange(size, dtype=np.float32) + np.float32(0.5)
        return np.clip(np.minimum(at - low * size, size - high * size - at) / penumbra + np.float32(0.5), 0, 1)

    field = opened(height, top, bottom)[:, np.newaxis] * opened(width, left, right)
    return times(image, BLADE_TRANSMISSION + (1 - BLADE_TRANSMISSION) * field.astype(np.float32))


def foreign_objects(image: FloatImage, thickness: float, rng: np.random.Generator) -> FloatImage:
    """Return a film with one to three objects on the patient: tubes, leads with an electrode, buttons.

    They take from the radiation by Beer–Lambert, exp(−μl). A film is displayed the other way round, I = 1 − T, so
    that 1 − I′ = (1 − I) exp(−μl): metal is white. `thickness` is μl where an object is thickest. A tube is dense
    along its walls, a lead is a thin line, and a button is a disc with holes; kinds, places and sizes are drawn.
    """
    if thickness == 0:
        return image
    path = np.zeros(image.shape[:2], np.float32)
    for _object in range(int(rng.integers(1, 4))):
        drawn = (_tube, _lead, _button)[int(rng.integers(3))]
        path += drawn(image, rng)
    return 1 - times(1 - image, np.exp(np.float32(-thickness) * path))


def dead_columns(image: FloatImage, columns: float, rng: np.random.Generator) -> FloatImage:
    """Return the image with dead columns of the detector, which read 0 (ASTM E2597), at places that are drawn.

    `columns` is their number of 224 over the width. A pixel that covers more than one column, as after a resize,
    is darker by the dead share of what it covers.
    """
    if columns == 0:
        return image
    dead = np.zeros(COLUMNS)
    chosen = rng.choice(COLUMNS, int(np.ceil(columns)), replace=False)
    dead[chosen] = 1
    dead[chosen[-1]] = columns - (len(chosen) - 1)  # between whole numbers one of them still reads a part
    upto = np.concatenate([[0], np.cumsum(dead)])
    edges = np.linspace(0, COLUMNS, image.shape[1] + 1)
    share = np.diff(np.interp(edges, np.arange(COLUMNS + 1), upto)) / np.diff(edges)
    return times(image, (1 - share[np.newaxis]).astype(np.float32))


def _curve(image: FloatImage, rng: np.random.Generator) -> np.ndarray:
    """Return a curve [1, n, 2] in pixels that enters at the image's edge and ends inside it."""
    height, width = image.shape[:2]
    # Start anywhere on the border, bend about a point, end near the middle: a quadratic Bézier curve.
    along, side = rng.random(), int(rng.integers(4))
    start = np.array([(along, -0.05), (along, 1.05), (-0.05, along), (1.05, along)][side])
    bend, end = rng.uniform(0.1, 0.9, 2), rng.uniform(0.25, 0.75, 2)
    t = np.linspace(0, 1, 40)[:, np.newaxis]
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    return np.rint(points * (width, height) * 16).astype(np.int32)[np.newaxis]


def _stroke(image: FloatImage, curve: np.ndarray, width: float) -> Field:
    """Return a curve drawn `width` pixels wide; a thinner one than a pixel is fainter instead."""
    drawn = np.zeros(image.shape[:2], np.uint8)
    color, thickness = (255 * min(1.0, width),), max(1, round(width))
    cv2.polylines(drawn, list(curve), isClosed=False, color=color, thickness=thickness, lineType=cv2.LINE_AA, shift=4)
    return drawn.astype(np.float32) / np.float32(255)


def _tube(image: FloatImage, rng: np.random.Generator) -> Field:
    curve, outer = _curve(image, rng), rng.uniform(4, 8) * scale_of(image)
    wall = _stroke(image, curve, outer) - np.float32(0.7) * _stroke(image, curve, 0.6 * outer)
    return np.clip(np.float32(0.6) * wall, 0, 1)


def _lead(image: FloatImage, rng: np.random.Generator) -> Field:
    curve = _curve(image, rng)
    electrode = _disc(image, curve[0, -1] / 16, rng.uniform(4, 7) * scale_of(image))
    return np.maximum(_stroke(image, curve, 1.5 * scale_of(image)), np.float32(0.6) * electrode)


def _button(image: FloatImage, rng: np.random.Generator) -> Field:
    height, width = image.shape[:2]
    centre, size = rng.uniform(0.15, 0.85, 2) * (width, height), rng.uniform(4, 8) * scale_of(image)
    button, turn = _disc(image, centre, size), rng.uniform(0, np.pi)
    for hole in (0, np.pi):
        at = centre + 0.35 * size * np.array([np.cos(turn + hole), np.sin(turn + hole)])
        button = button * (1 - _disc(image, at, 0.18 * size))
    return button


def _disc(image: FloatImage, centre: np.ndarray, size: float) -> Field:
    height, width = image.shape[:2]
    x, y = places(image)
    apart = np.hypot((x + 1) * width / 2 - centre[0], (y + 1) * height / 2 - centre[1])
    return np.clip(size + 0.5 - apart, 0, 1).astype(np.float32)
