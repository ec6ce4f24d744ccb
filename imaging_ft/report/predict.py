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
from imaging_ft.inference.rejection import REASONS
from imaging_ft.inference.runner import Runner
from imaging_ft.preprocess import InputSpec, conform
from imaging_ft.report.pixels import MEASURES, measure_pixels
from imaging_ft.types import Json, Pixels, Track, silent

FOLDER = ".measuring"
"""In a report's folder, while it is being measured."""
_LAYOUT = 2
"""Of the arrays that are kept; those of another form aren't taken up."""
_KEY = "key.json"
_MOST_PIXELS = 1 << 24
"""In the changed copies of one image that are in memory at once."""

Codes = npt.NDArray[np.uint8]
_Form = tuple[tuple[int, ...], type[np.float32 | np.uint8]]


@dataclass(frozen=True)
class Measured:
    """What was found for each image."""

    probabilities: list[npt.NDArray[np.float32]]
    """By model: [images, settings, classes]."""
    rejected: list[Codes]
    """By model: [images, settings], the place of the reason in REASONS, from 1; 0 where the image was let through."""
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
        "form": _LAYOUT,
        "tool": __version__,
        "models": [runner.sha256 for runner in runners],
        "images": [[sample.id, hashes[sample.id]] for sample in samples],
        "settings": [setting.conditions for setting in settings],
        "seed": seed,
    }
    shape = (len(samples), len(settings))
    wanted: list[_Form] = [((*shape, len(runner.bundle.labels)), np.float32) for runner in runners]
    wanted += [(shape, np.uint8) for _ in runners]
    kept = _Kept.open(keep, key, [*wanted, ((len(samples), len(MEASURES)), np.float32)])
    *found, pixels = kept.arrays
    probabilities, rejected = found[: len(runners)], found[len(runners) :]

    def one(position: int) -> None:
        sample = samples[position]
        image = read_image(sample.path)
        said = _said(runners, image, settings, sample_id=sample.id, seed=seed)
        measures = measure_pixels(conform(image, runners[0].bundle.input), window=runners[0].bundle.input.window)
        for number, (values, codes) in enumerate(said):
            probabilities[number][position], rejected[number][position] = values, codes
        pixels[position] = [measures.get(name, np.nan) for name in MEASURES]
        kept.done[position] = 1  # last: a row that a kill cut off doesn't count

    left = np.flatnonzero(kept.done == 0).tolist()
    cores = os.cpu_count() or 1
    for _ in track(ahead(one, left, workers=cores, most=4 * cores), "measuring", len(left)):
        pass
    table = pl.DataFrame({name: pixels[:, column] for column, name in enumerate(MEASURES)})
    copies = [[np.array(array) for array in arrays] for arrays in (probabilities, rejected)]
    return Measured(*copies, pixels=table.fill_nan(None))


def _said(
    runners: Sequence[Runner], image: Pixels, settings: Sequence[Setting], *, sample_id: str, seed: int
) -> list[tuple[npt.NDArray[np.float32], Codes]]:
    """Return what each model says of an image in each setting [settings, classes], and why it rejects it [settings]."""
    specs = [runner.bundle.input for runner in runners]
    found = [
        (np.empty((len(settings), len(runner.bundle.labels)), np.float32), np.zeros(len(settings), np.uint8))
        for runner in runners
    ]
    step = max(1, _MOST_PIXELS // (image.shape[0] * image.shape[1]))
    for start in range(0, len(settings), step):
        chosen = settings[start : start + step]
        changed: dict[Any, list[Pixels]] = {}
        for runner, spec, (values, codes) in zip(runners, specs, found, strict=True):
            form = (spec.channels, spec.dtype, spec.window)
            if form not in changed:
                changed[form] = _changed(image, spec, chosen, sample_id=sample_id, seed=seed)
            values[start : start + step], why = runner.judge(changed[form])
            codes[start : start + step] = [0 if one is None else REASONS.index(one.kind) + 1 for one in why]
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
    def open(cls, folder: Path | None, key: Json, forms: Sequence[_Form]) -> "_Kept":
        count = forms[0][0][0]
        if folder is None:
            empty = [np.full(shape, np.nan if dtype is np.float32 else 0, dtype) for shape, dtype in forms]
            return cls(empty, np.zeros(count, np.uint8))
        names = [f"{number}.npy" for number in range(len(forms))]
        try:
            if _same(folder / _KEY, key):
                arrays = [np.load(folder / name, mmap_mode="r+") for name in [*names, "done.npy"]]
                return cls(arrays[:-1], arrays[-1])
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            arrays = [
                np.lib.format.open_memmap(folder / name, mode="w+", dtype=dtype, shape=shape)
                for name, (shape, dtype) in zip([*names, "done.npy"], [*forms, ((count,), np.uint8)], strict=True)
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
