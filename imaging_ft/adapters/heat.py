"""A class activation map as a transparent picture, to be laid over the image."""

import base64

import cv2
import numpy as np

from imaging_ft.types import FloatImage

SIDE = 512
"""The longer side of the picture at most: a map has no more detail."""
_OPAQUE = 0.85


def heat_png(found: FloatImage) -> str:
    """Return a map [height, width] in [0, 1] as a PNG in a data URL: the stronger, the less transparent.

    It has the image's aspect ratio. The colours are matplotlib's inferno, which is even to the eye and can be read
    without colour vision.
    """
    height, width = found.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_AREA))
    levels = np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
    colours = np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO))
    alpha = np.rint(levels * _OPAQUE).astype(np.uint8)
    done, data = cv2.imencode(".png", np.dstack([colours, alpha]))
    if not done:
        raise RuntimeError("OpenCV can't write a PNG")
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode("ascii")
