"""Conditions on the angle axis: the same scene from another view, as far as one image can show it.

An out-of-plane view of a radiograph can't be made from one image: radiographs have roll alone, and their
yaw and pitch come from recorded columns. What a turned image doesn't show is filled with the median of its
border, the most likely background.
"""

import cv2
import numpy as np

from imaging_ft.types import FloatImage

FIELD_OF_VIEW = 60.0
"""Field of view assumed for a camera over the longer side, in degrees: f = max(w, h) / (2 tan 30°)."""


def roll(image: FloatImage, degrees: float, rng: np.random.Generator) -> FloatImage:
    """Return the image turned in its plane about its centre by ±`degrees` (the sign is drawn)."""
    if degrees == 0:
        return image
    height, width = image.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    turn = cv2.getRotationMatrix2D(centre, _signed(degrees, rng), 1.0)
    return _filled(
        cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderValue=_border(image)), image
    )


def yaw(image: FloatImage, degrees: float, rng: np.random.Generator) -> FloatImage:
    """Return a flat scene seen from ±`degrees` to the side, its middle kept in the middle.

    From the middle and with focal length f: x′ = f x cos θ / (f − x sin θ), y′ = f y / (f − x sin θ).
    """
    return _turned(image, _rotation(_signed(degrees, rng), axis=1)) if degrees else image


def pitch(image: FloatImage, degrees: float, rng: np.random.Generator) -> FloatImage:
    """Return a flat scene seen from ±`degrees` above or below: as `yaw`, with x and y exchanged."""
    return _turned(image, _rotation(_signed(degrees, rng), axis=0)) if degrees else image


def _turned(image: FloatImage, rotation: np.ndarray) -> FloatImage:
    """Warp about the image's middle, so that the subject stays in view: the camera goes round the scene."""
    height, width = image.shape[:2]
    focal = max(height, width) / (2 * np.tan(np.radians(FIELD_OF_VIEW / 2)))
    to_plane = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 0], [0, 0, 1.0]])
    # The scene is a plane at distance f (so that it fills the view); turn it there, then project it.
    moved = np.eye(4)
    moved[:3, :3] = rotation
    moved[2, 3] = focal
    project = np.array([[focal, 0, (width - 1) / 2, 0], [0, focal, (height - 1) / 2, 0], [0, 0, 1, 0.0]])
    homography = project @ moved @ to_plane
    warped = cv2.warpPerspective(image, homography, (width, height), flags=cv2.INTER_LINEAR, borderValue=_border(image))
    return _filled(warped, image)


def _rotation(degrees: float, *, axis: int) -> np.ndarray:
    return cv2.Rodrigues(np.radians(degrees) * np.eye(3)[axis])[0]


def _signed(degrees: float, rng: np.random.Generator) -> float:
    return degrees if rng.random() < 0.5 else -degrees


def _border(image: FloatImage) -> tuple[float, ...]:
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    return tuple(float(value) for value in np.median(edge, axis=0))


def _filled(warped: np.ndarray, image: FloatImage) -> FloatImage:
    """Give back the channel axis that OpenCV drops from a one-channel image."""
    return np.clip(warped.reshape(image.shape), 0, 1).astype(np.float32)
