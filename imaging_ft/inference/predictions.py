"""Predictions of files: one that can't be read is a row with its error, one not to be judged is rejected."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from imaging_ft.bundle import DISTANCE, PROBABILITIES, SEPARATOR, Bundle
from imaging_ft.errors import InputError
from imaging_ft.image import read_image
from imaging_ft.inference.ahead import ahead
from imaging_ft.inference.network import Batch
from imaging_ft.inference.rejection import rejection
from imaging_ft.inference.runner import Runner
from imaging_ft.inference.table import Status
from imaging_ft.types import Floats, Track, silent

CHUNK = 32
"""Images that are run together, whatever their sizes."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image."""

    image: str
    status: Status
    label: str | None = None
    """The class; of a multi-label task every class that is said to be there, joined by `|`, or an empty text."""
    probability: float | None = None
    """That class's; of a multi-label task the largest of those said to be there, or of all where none is."""
    probabilities: tuple[float, ...] | None = None
    """Of a rejected image too, for whoever wants to know what was not said."""
    reason: str | None = None
    """Why there is no label, where there is none."""

    def row(self, labels: list[str], sha256: str) -> dict[str, Any]:
        """Return the prediction as a row of the table; columns are the same for every row."""
        values: Sequence[float | None] = self.probabilities or [None] * len(labels)
        return {
            "image": self.image,
            "status": self.status,
            "label": self.label,
            "probability": self.probability,
            **{f"p_{label}": value for label, value in zip(labels, values, strict=True)},
            "reason": self.reason,
            "model_sha256": sha256,
        }


def decided(bundle: Bundle, image: str, levels: Batch, outputs: dict[str, Any]) -> Prediction:
    """Return what to say of one image, from what its graph gave: each output without its batch dimension."""
    values: Floats = np.asarray(outputs[PROBABILITIES])
    distance = float(np.ravel(outputs[DISTANCE])[0]) if DISTANCE in outputs else None
    why = rejection(bundle, levels, distance=distance)
    if why is not None:
        return Prediction(image, "rejected", probabilities=tuple(values.tolist()), reason=str(why))
    said = bundle.decide(values[np.newaxis])[0]
    label = SEPARATOR.join(name for name, there in zip(bundle.names, said.tolist(), strict=True) if there)
    probability = float((values[said] if said.any() else values).max())
    return Prediction(image, "ok", label, probability, tuple(values.tolist()))


def predict_files(runner: Runner, paths: Iterable[Path], *, track: Track = silent) -> Iterator[Prediction]:
    """Yield a prediction for each file, in order; a file that can't be read gives a row with its error.

    Images are read and prepared by threads, a little ahead of the network; no more than some chunks are in memory.
    """

    def prepared(path: Path) -> tuple[Path, Batch | InputError]:
        try:
            return path, runner.levels(read_image(path))
        except InputError as error:
            return path, error

    total = len(paths) if isinstance(paths, Sequence) else None
    coming = iter(track(ahead(prepared, paths, workers=2, most=CHUNK), "predicting", total))
    while chunk := list(islice(coming, CHUNK)):
        yield from _chunk(runner, chunk)


def _chunk(runner: Runner, chunk: list[tuple[Path, Batch | InputError]]) -> Iterator[Prediction]:
    good = [(path, levels) for path, levels in chunk if not isinstance(levels, InputError)]
    said = dict(_run(runner, good))
    for path, levels in chunk:
        yield Prediction(str(path), "error", reason=str(levels)) if isinstance(levels, InputError) else said[path]


def _run(runner: Runner, images: list[tuple[Path, Batch]]) -> Iterator[tuple[Path, Prediction]]:
    """Yield what is said of images; where a batch fails its halves are tried, so that one never fails the others."""
    if not images:
        return
    try:
        found = runner.run(np.stack([levels for _, levels in images]), runner.judged)
    except InputError as error:
        if len(images) == 1:
            yield images[0][0], Prediction(str(images[0][0]), "error", reason=str(error))
            return
        half = len(images) // 2
        yield from _run(runner, images[:half])
        yield from _run(runner, images[half:])
        return
    for place, (path, levels) in enumerate(images):
        yield path, decided(runner.bundle, str(path), levels, {name: values[place] for name, values in found.items()})
