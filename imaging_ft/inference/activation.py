"""Where in an image the evidence for a class lies, from the exported file alone."""

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from imaging_ft.bundle import LOGITS, Bundle
from imaging_ft.errors import BundleError, InputError
from imaging_ft.inference.head import Cells, Head, find_head
from imaging_ft.inference.model_file import ModelFile
from imaging_ft.inference.providers import Device
from imaging_ft.inference.runner import Runner
from imaging_ft.preprocess import InputSpec, conform, letterbox
from imaging_ft.types import FloatImage, Pixels

POSITIONS = 12
"""How many places along each side an occluding patch takes."""
PATCH = 6
"""The image's side over the patch's."""
_LEAST = 1e-4
"""A smaller loss of probability is rounding; scaled up it would look like evidence."""
_AGREES = 1e-3
"""How far, relative to the largest logit, a map's mean may be from its logit: float32 over a thousand channels."""


class Activation:
    """Shows where in an image a class's evidence lies.

    Where the head is linear on averages over space, that is the class activation map (Zhou et al. 2016,
    doi:10.1109/CVPR.2016.319), which is exact: its mean is the logit less the bias. Elsewhere, and where the network
    has averaged space away before, it is occlusion sensitivity (Zeiler & Fergus 2014,
    doi:10.1007/978-3-319-10590-1_53).
    """

    method: Literal["cam", "occlusion"]

    def __init__(self, runner: Runner, head: Head | None) -> None:
        self.bundle = runner.bundle
        self._runner = runner
        self._head = head if head is not None and self._holds(head) else None
        self.method = "occlusion" if self._head is None else "cam"

    @classmethod
    def open(cls, path: Path, bundle: Bundle, *, threads: int | None = None, sha256: str | None = None) -> "Activation":
        """Return what draws a bundle's maps, on the CPU.

        Raises BundleError where the file can't be loaded, or isn't the one of a SHA-256.
        """
        file = ModelFile.read(path)
        if sha256 is not None and file.sha256 != sha256:
            raise BundleError(f"{path}: another file lies there than was opened before; start again")
        model = file.parse()
        head = find_head(model.graph)
        if head is not None:
            model.graph.output.add(name=head.features)
        return cls(Runner.of(file, bundle, model, device=Device.CPU, threads=threads), head)

    def map(self, image: Pixels, label: int) -> FloatImage:
        """Return where the evidence for the class at index `label` lies: [height, width] of the image, in [0, 1].

        The strongest is 1; evidence against the class is 0, and so is everything where there is none for it. Raises
        InputError where the model gives no numbers.
        """
        pixels = conform(image, self.bundle.input)
        height, width = pixels.shape[:2]
        if self._head is None:
            found = self._occluded(pixels, label)
        else:
            cells, _ = self.evidence(pixels)
            found = over_image(cells[label], height, width, self.bundle.input)
        positive = np.maximum(found, 0).astype(np.float32)
        most = float(positive.max())
        return positive / np.float32(most) if most > 0 else positive

    def evidence(self, image: Pixels) -> tuple[Cells, Cells]:
        """Return what a class activation map is made of: evidence [classes, rows, columns] and bias [classes].

        The cells lie over the network's input, a letterbox's padding included; the mean of a class's cells plus its
        bias is its logit. Raises InputError where the method is another, or the model gives no numbers.
        """
        if self._head is None:
            raise InputError(f"{self._runner.path}: its head is not linear on averages over space; it has no such map")
        (features,) = self._run([self._head.features], image)
        return self._head.evidence(features[0]), self._head.bias

    def _holds(self, head: Head) -> bool:
        """Return whether a head gives the golden sample's logits, from more than one place."""
        logits, features = self._run([LOGITS, head.features], self.bundle.golden.image()[0])
        channels = head.weight.shape[1]
        if features.ndim != 4 or features.shape[3 if head.channels_last else 1] != channels:
            return False
        if features[0].size == channels:
            return False
        apart = np.abs(head.evidence(features[0]).mean(axis=(1, 2)) + head.bias - logits[0]).max()
        return bool(apart <= _AGREES * max(1.0, float(np.abs(logits).max())))

    def _occluded(self, pixels: Pixels, label: int) -> FloatImage:
        """Return how much of the class's probability is lost where a patch of the image's mean hides a place.

        [height, width]; each pixel has the mean over the patches that hide it. Of an image much larger than the
        network's input, a smaller copy is taken.
        """
        full = pixels.shape[:2]
        pixels = _at_most(pixels, 2 * max(self.bundle.input.height, self.bundle.input.width))
        height, width = pixels.shape[:2]
        mean = np.rint(pixels.mean(axis=(0, 1))).astype(pixels.dtype)
        whole = self._runner.predict([pixels])[0, label]
        lost, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
        for top, bottom in _places(height):  # a row at a time, so that the copies stay few
            patches = [(slice(top, bottom), slice(left, right)) for left, right in _places(width)]
            hidden = [pixels.copy() for _ in patches]
            for image, patch in zip(hidden, patches, strict=True):
                image[patch] = mean
            for said, patch in zip(self._runner.predict(hidden)[:, label], patches, strict=True):
                lost[patch] += whole - said
                count[patch] += 1
        loss = lost / count
        loss[loss < _LEAST] = 0
        return np.asarray(cv2.resize(loss, (full[1], full[0]), interpolation=cv2.INTER_LINEAR), np.float32)

    def _run(self, outputs: list[str], image: Pixels) -> Any:
        """Return outputs [1, …] for one image [height, width, channels]."""
        found = self._runner.run(self._runner.levels(image)[np.newaxis], outputs)
        return [found[name] for name in outputs]


def over_image(cells: Cells, height: int, width: int, spec: InputSpec) -> FloatImage:
    """Return cells over the network's input [rows, columns] as they lie over the image [height, width], bilinear."""
    inner = letterbox(height, width, spec) if spec.resize == "letterbox" else (spec.height, spec.width)
    down = _taps(cells.shape[0], spec.height, inner[0], height)
    across = _taps(cells.shape[1], spec.width, inner[1], width)
    return np.asarray(down @ cells.astype(np.float32) @ across.T, np.float32)


def _taps(cells: int, total: int, inner: int, length: int) -> npt.NDArray[np.float32]:
    """Return by what share each of `length` pixels takes each cell of a side: [length, cells].

    The pixels lie in the middle `inner` of the network's `total`, over which the cells are spread evenly.
    """
    before = (total - inner) // 2
    middles = (before + (np.arange(length) + 0.5) * inner / length) * cells / total - 0.5
    return np.stack([np.interp(middles, np.arange(cells), one) for one in np.eye(cells)], axis=1).astype(np.float32)


def _places(length: int) -> list[tuple[int, int]]:
    """Return the first pixel of each patch along a side, and the one after its last; together they hide every pixel."""
    side = max(1, round(length / PATCH))
    starts = np.unique(np.rint(np.linspace(0, length - side, POSITIONS)).astype(int)).tolist()
    return [(start, start + side) for start in starts]


def _at_most(pixels: Pixels, side: int) -> Pixels:
    height, width, channels = pixels.shape
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), pixels.dtype).reshape(
        size[1], size[0], channels
    )
