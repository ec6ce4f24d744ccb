"""The images that a contact sheet shows: one file, or some of a data set's training images, as training sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imaging_ft.data import ImageFormat, Sample, load
from imaging_ft.data.samples import classes_of
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
        pixels = read_image(path)
        levels = _levels([pixels], _found_in([pixels], window=range_of(pixels)), size=size)
        return Shown(tuple(levels), levels[:0])
    dataset = load(argument, track=track)
    # Splits that the data doesn't declare are drawn by training; here every image will do.
    samples = [sample for sample in dataset.samples if sample.split in {None, Split.TRAIN}]
    if not samples:
        raise DataError(f"{argument}: no training images to show; {len(dataset.samples)} images are of other splits")
    rng = np.random.default_rng(seed)
    samples = [samples[index] for index in rng.permutation(len(samples))]
    positive, task = set(dataset.card.positive), dataset.card.task
    negative = [sample for sample in samples if positive and positive.isdisjoint(classes_of(sample, task))]
    chosen = _in_turn(samples)[:rows]
    shown = [*chosen, *negative[:CLUTTER_IMAGES]]
    images = [read_image(sample.path) for sample in track(shown, "reading", len(shown))]
    levels = _levels(images, dataset.card.image or _found_in(images), size=size)
    return Shown(tuple(levels[: len(chosen)]), levels[len(chosen) :])


def range_of(pixels: Pixels) -> tuple[int, int] | None:
    """Return the stored values of a file on its own to show as black and white; None for 8 bits.

    0 to the depth that its 16-bit pixels use (10, 12, 14 bits): no card says what training would see.
    """
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


def _found_in(images: Sequence[Pixels], *, window: tuple[int, int] | None = None) -> ImageFormat:
    """Return the most channels and bits among images: what training takes where no card says it."""
    values = {
        "channels": max(image.shape[2] for image in images),
        "bits": max(8 * image.dtype.itemsize for image in images),
        "window": window,
    }
    return ImageFormat.checked(values, where="the images' format")


def _levels(images: Sequence[Pixels], stored: ImageFormat, *, size: int) -> Levels:
    """Return images as levels [n, size, size, channels]."""
    values = {"channels": stored.channels, "dtype": f"uint{stored.bits}", "window": stored.window}
    spec = InputSpec.checked(values | {"height": size, "width": size}, where="the images' format")
    return np.stack([prepare(pixels, spec) for pixels in images])
