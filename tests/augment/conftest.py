"""A picture that is natural enough to be changed: gradients, edges, fine texture, neither black nor white."""

import cv2
import numpy as np
import pytest

from imaging_ft.types import FloatImage


@pytest.fixture
def scene() -> FloatImage:
    """An image [48, 64, 3] in 0.05 to 0.95 whose channels differ, and whose content is off its middle."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:48, 0:64]
    image = np.stack([0.35 + 0.15 * np.sin(x / 9 + c) + 0.1 * np.cos(y / 7 - c) for c in range(3)], axis=2)
    image = np.ascontiguousarray(image, np.float32)
    cv2.circle(image, (24, 18), 9, (0.8, 0.7, 0.6), -1)
    cv2.rectangle(image, (38, 26), (52, 40), (0.1, 0.15, 0.2), -1)
    return np.clip(image + rng.normal(0, 0.02, image.shape), 0.05, 0.95).astype(np.float32)
