"""Validation images as they are and under a condition suite, as the levels that the network sees."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from imaging_ft.augment.conditions import Setting, Suite, load_suite
from imaging_ft.bundle import PROBABILITIES
from imaging_ft.export.validation import Validation, evenly
from imaging_ft.inference.ahead import ahead
from imaging_ft.preprocess import LEVELS, InputSpec, prepare
from imaging_ft.types import Axis, Levels, Pixels, Track

SEVERITIES = (1, 3, 5)
MOST_IMAGES = 400
"""More than these are sampled, as many of each class as there are places; it's stated how many were taken."""
_BATCH = 32
_CALIBRATION = 128

Prepare = Callable[[Pixels], Levels]
"""A stored image to levels [height, width, channels]."""


@dataclass(frozen=True)
class Cells:
    """The images of every cell: the images as they are first, then each condition at each severity."""

    suite: str
    settings: Sequence[Setting]
    levels: Levels
    """[cells, images, channels, height, width] as training prepares them."""
    own: Levels
    """The same as the exported file prepares them; the same array where both do it by one graph."""
    truth: npt.NDArray[np.bool_]
    """[images, classes]."""

    def said(self, network: bytes, *, own: bool, track: Track) -> npt.NDArray[np.float32]:
        """Return a network's probabilities [cells, images, classes], on the CPU."""
        session = _session(network)
        levels = self.own if own else self.levels
        return np.stack([_run(session, cell) for cell in track(levels, "precision", len(levels))])

    def calibration(self) -> Levels:
        """Return levels [n, channels, height, width] to take ranges from: half as they are, half in bad light."""
        dark = [place for place, setting in enumerate(self.settings) if Axis.LIGHTING.value in setting.axes] or list(
            range(1, len(self.settings))
        )
        images = evenly(np.arange(self.levels.shape[1]), _CALIBRATION // 2)
        changed = [self.levels[dark[turn % len(dark)], image] for turn, image in enumerate(images)] if dark else []
        return np.stack([*self.levels[0, images], *changed])


def run_levels(network: bytes, levels: Levels) -> npt.NDArray[np.float32]:
    """Return a network's probabilities [n, classes] for levels [n, channels, height, width], on the CPU."""
    return _run(_session(network), levels)


def _session(network: bytes) -> Any:
    return ort.InferenceSession(network, providers=["CPUExecutionProvider"])


def _run(session: Any, levels: Levels) -> npt.NDArray[np.float32]:
    batches = [np.ascontiguousarray(levels[start : start + _BATCH]) for start in range(0, len(levels), _BATCH)]
    return np.concatenate([session.run([PROBABILITIES], {LEVELS: batch})[0] for batch in batches])


@contextmanager
def make_cells(validation: Validation, spec: InputSpec, own: Prepare | None, *, track: Track) -> Iterator[Cells]:
    """Give the cells of a run's validation images, kept in a temporary folder.

    `own` prepares an image as the exported file does, where that is not training's own graph.
    """
    suite = _suite(validation.suite)
    settings = suite.settings(channels=spec.channels)
    chosen = _chosen(validation.truth)
    shape = (len(settings), len(chosen), spec.channels, spec.height, spec.width)
    with TemporaryDirectory() as folder:
        levels, others = (_array(Path(folder) / name, shape) for name in ("levels", "own"))

        def one(place: int) -> None:
            image, sample = validation.images[chosen[place]], validation.samples[chosen[place]]
            for cell, setting in enumerate(settings):
                changed = setting.apply(image, sample_id=sample.id, seed=suite.seed, window=spec.window)
                levels[cell, place] = prepare(changed, spec).transpose(2, 0, 1)
                if own is not None:
                    others[cell, place] = own(changed).transpose(2, 0, 1)

        for _ in track(ahead(one, range(len(chosen)), workers=2, most=4), "conditions", len(chosen)):
            pass
        yield Cells(suite.name, settings, levels, levels if own is None else others, validation.truth[chosen])


def _suite(name: str) -> Suite:
    suite = load_suite(name)
    return Suite.checked(
        suite.model_dump() | {"severities": SEVERITIES, "grid": None}, where=f"condition suite {suite.name}"
    )


def _chosen(truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return which images to take: all, or of too many the same number of each class, evenly over their order."""
    count = len(truth)
    if count <= MOST_IMAGES:
        return np.arange(count)
    taken = set[int]()
    classes = [np.flatnonzero(column) for column in truth.T]
    for left, images in enumerate(sorted(classes, key=len)):
        share = (MOST_IMAGES - len(taken)) // (len(classes) - left)
        taken.update(evenly(images, share).tolist())
    return np.array(sorted(taken))


def _array(path: Path, shape: tuple[int, ...]) -> Levels:
    return np.lib.format.open_memmap(path.with_suffix(".npy"), mode="w+", dtype=np.uint8, shape=shape)
