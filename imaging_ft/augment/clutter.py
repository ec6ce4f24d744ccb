"""Clutter: other objects laid over an X-ray image, as they lie in a bag.

Transmissions multiply (Beer–Lambert: I = exp(−Σ μl)), so an image I with another object B in the beam is I · B^α;
α scales the other object's thickness. The other objects are training images of the negative classes. Where several
leave nearly nothing of the beam, a scanner would ask for another view, so that their thickness can be bounded.
"""

import math
from typing import Any

import cv2
import numpy as np

from imaging_ft.augment.quiet import A
from imaging_ft.types import FloatImage, Levels

_DARKEST = np.float32(0.5 / 255)
"""What lies below half a level lets nothing through that could be told from it."""


class Clutter(A.ImageOnlyTransform):
    """Lay random pieces of other images over an image as transmissions, on uint8 levels."""

    def __init__(
        self,
        pool: Levels,
        *,
        layers: tuple[int, int],
        strength: tuple[float, float],
        thickest: float = math.inf,
        p: float,
    ) -> None:
        """Take the clutter from `pool` [n, height, width, channels]; α is uniform in `strength`.

        `thickest` is what the layers together may have as their mean optical depth Σ αμl = −ln T over the image; where
        they have more, all are made thinner alike.
        """
        super().__init__(p=p)
        self.pool = pool
        self.layers = layers
        self.strength = strength
        self.thickest = thickest

    def apply(self, img: Levels, seed: int, **_: Any) -> Levels:
        """Return the image under one or more layers of clutter."""
        rng = np.random.default_rng(seed)
        depth = np.zeros(img.shape, np.float32)
        for _layer in range(int(rng.integers(self.layers[0], self.layers[1] + 1))):
            piece = _piece(self.pool[int(rng.integers(len(self.pool)))], img.shape[:2], rng)
            depth -= np.float32(rng.uniform(*self.strength)) * np.log(np.maximum(piece, _DARKEST))
        mean = float(depth.mean())
        if mean > self.thickest:
            depth *= np.float32(self.thickest / mean)
        return np.rint(img * np.exp(-depth)).astype(np.uint8)

    def get_params(self) -> dict[str, Any]:
        """Draw the seed of the layers."""
        return {"seed": self.py_random.getrandbits(63)}


def _piece(levels: Levels, size: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    """Return a random crop of an image, turned, flipped and scaled to a size, as transmission in [0, 1]."""
    height, width = levels.shape[:2]
    share = rng.uniform(0.4, 1.0)
    crop_height, crop_width = max(8, int(height * share)), max(8, int(width * share))
    top, left = int(rng.integers(height - crop_height + 1)), int(rng.integers(width - crop_width + 1))
    crop = np.rot90(levels[top : top + crop_height, left : left + crop_width], int(rng.integers(4)))
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    piece = cv2.resize(np.ascontiguousarray(crop), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    turn = cv2.getRotationMatrix2D(((size[1] - 1) / 2, (size[0] - 1) / 2), float(rng.uniform(-45, 45)), 1.0)
    turned = cv2.warpAffine(piece, turn, (size[1], size[0]), borderMode=cv2.BORDER_REPLICATE)
    return turned.reshape(size[0], size[1], levels.shape[2]).astype(np.float32) / np.float32(255)
