"""The measurement itself: what models say of each image in each setting, image by image on all cores.

Each image is decoded once. What is done is kept in a folder as it is done, so that a measurement that was broken off
goes on where it stopped.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from imaging_ft import __version__
from imaging_ft.augment.conditions import Setting
from imaging_ft.config import reason
from imaging_ft.data import Sample
from imaging_ft.errors import InputError
from imaging_ft.image import read_image
from imaging_ft.inference.ahead import ahead
from imaging_ft.inference.runner import Runner
from imaging_ft.preprocess import InputSpec, conform
from imaging_ft.report.pixels import MEASURES, measure_pixels
from imaging_ft.types import Json, Pixels, Track, silent

FOLDER = ".measuring"
"""In a report's folder, while it is being measured."""
_KEY = "key.json"
_MOST_PIXELS = 1 << 24
"""In the changed copies of one image that are in memory at once."""


@dataclass(frozen=True)
class Measured:
    """What was found for each image."""

    probabilities: list[npt.NDArray[np.float32]]
    """By model: [images, settings, classes]."""
    pixels: pl.DataFrame
    """A row for each image: `pixels.MEASURES` of it as it is."""


def predict_settings(
    runners: Sequence[Runner],
    samples: Sequence[Sample],
    settings: Sequence[Setting],
    *,
    seed: int,
    hashes: dict[str, str],
    keep: Path | None = None,
    track: Track = silent,
) -> Measured:
    """Return what each model says of each image in each setting, and what is measured of the image's pixels.

    `keep` names a folder that holds what is done meanwhile; of one that another measurement left, nothing is used.
    `hashes` are the images' SHA-256 by sample id, which tell whether it is another.
    """
    key: Json = {
        "tool": __version__,
        "models": [runner.sha256 for runner in runners],
        "images": [[sample.id, hashes[sample.id]] for sample in samples],
        "settings": [setting.conditions for setting in settings],
        "seed": seed,
    }
    shapes = [(len(samples), len(settings), len(runner.bundle.labels)) for runner in runners]
    kept = _Kept.open(keep, key, [*shapes, (len(samples), len(MEASURES))])
    *found, pixels = kept.arrays

    def one(position: int) -> None:
        sample = samples[position]
        image = read_image(sample.path)
        said = _said(runners, image, settings, sample_id=sample.id, seed=seed)
        measures = measure_pixels(conform(image, runners[0].bundle.input), window=runners[0].bundle.input.window)
        for array, values in zip(found, said, strict=True):
            array[position] = values
        pixels[position] = [measures.get(name, np.nan) for name in MEASURES]
        kept.done[position] = 1  # last: a row that a kill cut off doesn't count

    left = np.flatnonzero(kept.done == 0).tolist()
    cores = os.cpu_count() or 1
    for _ in track(ahead(one, left, workers=cores, most=4 * cores), "measuring", len(left)):
        pass
    table = pl.DataFrame({name: pixels[:, column] for column, name in enumerate(MEASURES)})
    return Measured([np.array(array) for array in found], table.fill_nan(None))


def _said(
    runners: Sequence[Runner], image: Pixels, settings: Sequence[Setting], *, sample_id: str, seed: int
) -> list[npt.NDArray[np.float32]]:
    """Return what each model says of one image in each setting: [settings, classes]."""
    specs = [runner.bundle.input for runner in runners]
    found = [np.empty((len(settings), len(runner.bundle.labels)), np.float32) for runner in runners]
    step = max(1, _MOST_PIXELS // (image.shape[0] * image.shape[1]))
    for start in range(0, len(settings), step):
        chosen = settings[start : start + step]
        changed: dict[Any, list[Pixels]] = {}
        for runner, spec, values in zip(runners, specs, found, strict=True):
            form = (spec.channels, spec.dtype, spec.window)
            if form not in changed:
                changed[form] = _changed(image, spec, chosen, sample_id=sample_id, seed=seed)
            values[start : start + step] = runner.predict(changed[form])
    return found


def _changed(image: Pixels, spec: InputSpec, settings: Sequence[Setting], *, sample_id: str, seed: int) -> list[Pixels]:
    # The model's own depth and channels, so that what is changed is what the model would be given.
    pixels = conform(image, spec)
    return [setting.apply(pixels, sample_id=sample_id, seed=seed, window=spec.window) for setting in settings]


@dataclass(frozen=True)
class _Kept:
    """The arrays that a measurement fills: on disk where it has a folder, else in memory."""

    arrays: Sequence[npt.NDArray[Any]]
    done: npt.NDArray[np.uint8]
    """[images], 1 where the image's rows are filled."""

    @classmethod
    def open(cls, folder: Path | None, key: Json, shapes: Sequence[tuple[int, ...]]) -> "_Kept":
        count = shapes[0][0]
        if folder is None:
            return cls([np.full(shape, np.nan, np.float32) for shape in shapes], np.zeros(count, np.uint8))
        names = [f"{number}.npy" for number in range(len(shapes))]
        try:
            if _same(folder / _KEY, key):
                arrays = [np.load(folder / name, mmap_mode="r+") for name in [*names, "done.npy"]]
                return cls(arrays[:-1], arrays[-1])
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            wanted = [(name, shape, np.float32) for name, shape in zip(names, shapes, strict=True)]
            arrays = [
                np.lib.format.open_memmap(folder / name, mode="w+", dtype=dtype, shape=shape)
                for name, shape, dtype in [*wanted, ("done.npy", (count,), np.uint8)]
            ]
            # Last: a folder without it is of a measurement that had not begun.
            (folder / _KEY).write_text(json.dumps(key), encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: what is measured can't be kept there: {reason(error)}") from error
        return cls(arrays[:-1], arrays[-1])


def _same(path: Path, key: Json) -> bool:
    try:
        return json.loads(path.read_text(encoding="utf-8")) == key
    except (OSError, ValueError):
        return False
