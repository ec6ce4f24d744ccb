"""The images that a contact sheet shows: one file, or some of a data set's training images, as training sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imaging_ft.data import Sample, load
from imaging_ft.errors import DataError
from imaging_ft.image import read_image
from imaging_ft.preprocess import InputSpec, prepare
from imaging_ft.types import Levels, Pixels, Split, Track, silent

CLUTTER_IMAGES = 32
"""So many images of the negative classes are laid over the shown ones, where a recipe lays clutter."""
_DATASETS = {".yaml", ".yml", ".csv", ".parquet", ".npz"}


@dataclass(frozen=True)
class Shown:
    """Images at the network's size."""

    images: tuple[Levels, ...]
    clutter: Levels
    """[n, height, width, channels]; none where the data set's card names no positive classes."""


def images_for(argument: str, *, size: int, rows: int, seed: int = 0, track: Track = silent) -> Shown:
    """Return the image of a file, or up to `rows` training images of a DATASET, a class after the other.

    Which ones is drawn by `seed`. Raises DataError, ImageError.
    """
    path = Path(argument).expanduser()
    if path.is_file() and path.suffix.lower() not in _DATASETS:
        levels = _levels([path], size=size, window=None, track=track)
        return Shown(tuple(levels), levels[:0])
    dataset = load(argument, track=track)
    # Splits that the data doesn't declare are drawn by training; here every image will do.
    samples = [sample for sample in dataset.samples if sample.split in {None, Split.TRAIN}]
    if not samples:
        raise DataError(f"{argument}: no training images to show; {len(dataset.samples)} images are of other splits")
    rng = np.random.default_rng(seed)
    samples = [samples[index] for index in rng.permutation(len(samples))]
    positive = set(dataset.card.positive)
    negative = [sample for sample in samples if positive and sample.label not in positive][:CLUTTER_IMAGES]
    chosen = _in_turn(samples)[:rows]
    image = dataset.card.image
    paths = [sample.path for sample in (*chosen, *negative)]
    levels = _levels(paths, size=size, window=image.window if image else None, track=track)
    return Shown(tuple(levels[: len(chosen)]), levels[len(chosen) :])


def range_of(pixels: Pixels) -> tuple[int, int] | None:
    """Return the stored values to show as black and white: 0 to the depth that 16-bit pixels use (10, 12, 14 bits)."""
    if pixels.dtype == np.uint8:
        return None
    bits = max(8, int(pixels.max()).bit_length())
    return (0, 2**bits - 1)


def _in_turn(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples with the classes in turn, so that the first few show each."""
    seen: dict[str, int] = {}
    ranked: list[tuple[int, str, Sample]] = []
    for sample in samples:
        ranked.append((seen.get(sample.label, 0), sample.label, sample))
        seen[sample.label] = seen.get(sample.label, 0) + 1
    return [sample for _, _, sample in sorted(ranked, key=lambda entry: entry[:2])]


def _levels(paths: Sequence[Path], *, size: int, window: tuple[int, int] | None, track: Track) -> Levels:
    """Return files as levels [n, size, size, channels]; gray, unless one of them has colour."""
    images = [read_image(path) for path in track(paths, "reading", len(paths))]
    channels = max(image.shape[2] for image in images)
    found: list[Levels] = []
    for pixels in images:
        shown = (window or range_of(pixels)) if pixels.dtype == np.uint16 else None
        values = {"channels": channels, "dtype": pixels.dtype.name, "height": size, "width": size, "window": shown}
        found.append(prepare(pixels, InputSpec.checked(values, where="contact sheet")))
    return np.stack(found)
