"""npz files in MedMNIST's layout: arrays train_images, train_labels, val_…, test_…; read as they are.

Every part of this project reads images from files, so an npz file's images are unpacked once, as PNG files without
loss, into <home>/.unpacked/<key>. The key is made of the arrays' names, sizes and CRC-32, which stand in the file's
directory: it costs no time, and the same file is not unpacked again where it moves. The folder may be deleted.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from imaging_ft.config import reason
from imaging_ft.data.card import Card
from imaging_ft.data.labels import joined
from imaging_ft.data.lock import held
from imaging_ft.data.places import homes, in_words, writable_home
from imaging_ft.data.png import encode_png, png_size
from imaging_ft.data.samples import Dataset, Sample
from imaging_ft.errors import DataError
from imaging_ft.types import Ints, Split, Task, Track, silent

SUFFIX = ".npz"
_UNPACKED = ".unpacked"
_COMPLETE = "complete.json"
_FORM = "png/1"
"""Part of every key; it changes when what is written changes."""
_EXPECTED = "expected train_images (uint8, [n, height, width] or [n, height, width, 3]) and train_labels, val_…, test_…"
_DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError)
"""What zipfile and NumPy raise for a file that is missing, damaged, encrypted or of another kind."""


@dataclass(frozen=True)
class Part:
    """The arrays of one split: how the images are stored, and what they show."""

    split: Split
    count: int
    height: int
    width: int
    channels: int
    labels: Ints
    """[n, columns]: one column of class numbers, or one of 0 and 1 for each class."""

    def name(self, index: int) -> str:
        """Return an image's path relative to the folder it's unpacked into."""
        return f"{self.split}/{index:06}.png"


def from_npz(card: Card, root: Path, *, bare: bool, track: Track) -> Dataset:
    """Return the samples of an npz file, unpacked at first use.

    Where no card says otherwise (`bare`), several label columns are a multi-label task, and classes are called by
    their numbers. Raises DataError where the arrays are not as expected, or don't agree with the card.
    """
    path = root / (card.npz or "")
    parts = read_parts(path)
    card = _with_classes(card, parts, path) if bare else card
    names = _names(card, parts, path)
    folder = unpack_npz(path, track=track)
    samples = [
        Sample(part.name(index), folder / part.name(index), label, part.split)
        for part in parts
        for index, label in enumerate(_shown(card, part, names, path))
    ]
    return Dataset(card, folder, tuple(samples))


def read_parts(path: Path) -> tuple[Part, ...]:
    """Return what an npz file holds for each split; the images themselves are not read."""
    if not path.is_file():
        raise DataError(f"{path}: no such npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            found = {name.removesuffix(".npy") for name in archive.namelist()}
            splits = [split for split in Split if f"{split}_images" in found]
            if not splits:
                raise DataError(f"{path}: has no images ({', '.join(sorted(found)) or 'it is empty'}); {_EXPECTED}")
            return tuple(_read_part(archive, path, split, found) for split in splits)
    except _DAMAGE as error:
        raise DataError(f"{path}: can't be read as npz: {reason(error)}; get a fresh copy of it") from error


def unpack_npz(path: Path, *, track: Track = silent) -> Path:
    """Return the folder that holds an npz file's images as PNG, written at the first call.

    A call that was killed is taken up where it was; processes that want the same file wait for one another.
    """
    key = _key(path)
    for home in homes():
        if (home / _UNPACKED / key / _COMPLETE).is_file():
            return home / _UNPACKED / key
    folder = writable_home() / _UNPACKED / key
    with held(folder.with_name(f".{key}.lock")):
        if (folder / _COMPLETE).is_file():
            return folder
        parts = read_parts(path)
        part_folder = folder.with_name(f".{key}.part")
        try:
            for part in parts:
                (part_folder / part.split).mkdir(parents=True, exist_ok=True)
            _look_for_room(path, part_folder, parts)
            total = sum(part.count for part in parts)
            for _ in track(_write_images(path, part_folder, parts), f"unpacking {path.name}", total):
                pass
            (part_folder / _COMPLETE).write_text(json.dumps({"from": path.name, "images": total}) + "\n")
            part_folder.replace(folder)
        except zipfile.BadZipFile as error:
            raise DataError(f"{path}: damaged: {reason(error)}; get a fresh copy of it") from error
        except OSError as error:
            raise DataError(f"{path}: can't be unpacked into {folder}: {reason(error)}") from error
    return folder


def _key(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            listed = sorted((info.filename, info.file_size, info.CRC) for info in archive.infolist())
    except _DAMAGE as error:
        raise DataError(f"{path}: can't be read as npz: {reason(error)}; get a fresh copy of it") from error
    return hashlib.sha256(f"{_FORM}\n{listed}".encode()).hexdigest()[:32]


def _read_part(archive: zipfile.ZipFile, path: Path, split: Split, found: set[str]) -> Part:
    with archive.open(f"{split}_images.npy") as member:
        shape, dtype = _header(member)
        read = member.tell()
    is_images = len(shape) == 3 or (len(shape) == 4 and shape[3] in {1, 3})
    if dtype != np.uint8 or not is_images or 0 in shape[1:]:
        raise DataError(f"{path}: {split}_images is {dtype} {list(shape)}; {_EXPECTED}")
    if archive.getinfo(f"{split}_images.npy").file_size != read + int(np.prod(shape, dtype=object)):
        raise DataError(f"{path}: {split}_images has not as many bytes as its shape says; get a fresh copy of it")
    if f"{split}_labels" not in found:
        raise DataError(f"{path}: {split}_images without {split}_labels; {_EXPECTED}")
    with archive.open(f"{split}_labels.npy") as member:
        labels = np.lib.format.read_array(member, allow_pickle=False)
    if labels.dtype.kind not in "iub" or labels.ndim not in {1, 2} or len(labels) != shape[0]:
        what = f"{labels.dtype} {list(labels.shape)}"
        raise DataError(
            f"{path}: {split}_labels is {what}; expected whole numbers, [{shape[0]}] or [{shape[0]}, columns]"
        )
    columns = labels.reshape(shape[0], -1).astype(np.int64)
    return Part(split, shape[0], shape[1], shape[2], shape[3] if len(shape) == 4 else 1, columns)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(member)  # pyright: ignore[reportArgumentType]
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(member)  # pyright: ignore[reportArgumentType]
    if fortran and len(shape) > 1:
        raise ValueError("the array is in Fortran order; save it again with numpy.ascontiguousarray")
    return shape, dtype


def _with_classes(card: Card, parts: tuple[Part, ...], path: Path) -> Card:
    """Return the card with the task and the classes that the labels themselves show."""
    columns = parts[0].labels.shape[1]
    if columns > 1:
        update = {"task": Task.MULTILABEL, "labels": tuple(str(number) for number in range(columns))}
    else:
        highest = max((int(part.labels.max()) for part in parts if part.count), default=0)
        if highest > 9_999:
            raise DataError(f"{path}: a label is {highest}; class numbers from 0 upwards are expected")
        update = {"labels": tuple(str(number) for number in range(highest + 1))}
    return card.model_copy(update=update)


def _names(card: Card, parts: tuple[Part, ...], path: Path) -> tuple[str, ...]:
    """Return the class names in the labels' order, checked against the number of columns."""
    if card.labels is None:
        raise DataError(f"{card.name}: the card names no labels; list the classes of {path.name}, 0 first")
    expected = len(card.labels) if card.task is Task.MULTILABEL else 1
    for part in parts:
        if part.labels.shape[1] != expected:
            raise DataError(
                f"{path}: {part.split}_labels has {part.labels.shape[1]} columns, but the card's task is {card.task}"
                f" with {len(card.labels)} labels, which needs {expected}"
            )
    return card.labels


def _shown(card: Card, part: Part, names: tuple[str, ...], path: Path) -> Iterator[str]:
    """Yield each image's label, as `Sample.label` holds it."""
    highest = 1 if card.task is Task.MULTILABEL else len(names) - 1
    wrong = np.argwhere((part.labels < 0) | (part.labels > highest))
    if len(wrong):
        row, column = wrong[0].tolist()
        value = int(part.labels[row, column])
        raise DataError(f"{path}: {part.split}_labels[{row}] holds {value}; expected 0 to {highest}, as the card says")
    for row in part.labels.tolist():
        if card.task is Task.MULTILABEL:
            yield joined([name for name, shown in zip(names, row, strict=True) if shown])
        else:
            yield names[row[0]]


def _look_for_room(path: Path, folder: Path, parts: tuple[Part, ...]) -> None:
    block = 4096  # what a file takes at least on most disks
    needed = sum(part.count * -(-png_size(part.height, part.width, part.channels) // block) * block for part in parts)
    there = sum(1 for split in Split for _ in (folder / split).glob("*.png")) / max(1, sum(p.count for p in parts))
    free = shutil.disk_usage(folder).free
    if free < needed * (1 - there):
        raise DataError(
            f"{path}: unpacking needs {in_words(needed)} in {folder.parent}, where {in_words(free)} are free;"
            " make room, or set IMAGING_FT_DATA to a folder on another disk"
        )


def _write_images(path: Path, folder: Path, parts: tuple[Part, ...]) -> Iterator[None]:
    """Write every image, one step each; a file of the right size is already right, as its bytes follow its shape."""
    with zipfile.ZipFile(path) as archive:
        for part in parts:
            size = part.height * part.width * part.channels
            file_size = png_size(part.height, part.width, part.channels)
            with archive.open(f"{part.split}_images.npy") as member:
                _header(member)
                for index in range(part.count):
                    pixels: npt.NDArray[np.uint8] = np.frombuffer(member.read(size), np.uint8)
                    target = folder / part.name(index)
                    if not (target.is_file() and target.stat().st_size == file_size):
                        target.write_bytes(encode_png(pixels.reshape(part.height, part.width, part.channels)))
                    yield None
                if member.read(1):
                    raise zipfile.BadZipFile(f"{part.split}_images goes on behind its last image")
