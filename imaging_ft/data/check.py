"""What is wrong with a data set's files: missing, damaged, mislabelled, contradicting each other."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from imaging_ft.config import reason
from imaging_ft.data.card import ImageFormat
from imaging_ft.data.samples import Problem, Sample, classes_of
from imaging_ft.errors import ImageError
from imaging_ft.image import check_suffix, read_image
from imaging_ft.types import Task, Track

R = TypeVar("R")


@dataclass(frozen=True)
class Hashed:
    """Which samples' files are there, and the SHA-256 of each one's bytes."""

    hashes: dict[str, str]
    """Sample id to hexadecimal SHA-256."""
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Decoded:
    """What decoding every image showed."""

    found: ImageFormat
    """The most channels and bits among the images."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of each readable image."""
    problems: tuple[Problem, ...]


def hash_files(samples: tuple[Sample, ...], track: Track) -> Hashed:
    """Return the SHA-256 of each sample's bytes; a missing, empty or misnamed file is a problem instead."""
    hashes: dict[str, str] = {}
    problems: list[Problem] = []
    for sample, result in _each(samples, _hash, track, "reading files"):
        if isinstance(result, ImageError):
            problems.append(Problem(sample, str(result)))
        else:
            hashes[sample.id] = result
    return Hashed(hashes, tuple(problems))


def decode_files(samples: tuple[Sample, ...], declared: ImageFormat | None, track: Track) -> Decoded:
    """Decode every image and return what they are; one that can't be read is a problem.

    So is an 8-bit one where the card's window ends below half of the 16-bit scale: its own full scale is 65535 there,
    and more than half of it would lie above the window.
    """
    window = declared.window if declared and declared.bits == 16 else None
    if window is not None and window[1] >= 2**15:
        window = None
    problems: list[Problem] = []
    sizes: list[tuple[int, int]] = []
    channels: Counter[int] = Counter()
    bits: Counter[int] = Counter()
    for sample, result in _each(samples, _decode, track, "decoding images"):
        if isinstance(result, ImageError):
            problems.append(Problem(sample, str(result)))
            continue
        height, width, depth, stored = result
        if window is not None and stored == 8:
            what = (
                f"8 bits, but the card's window [{window[0]}, {window[1]}] is of 16-bit values; store it in 16 bits,"
                " or leave the window out of the card"
            )
            problems.append(Problem(sample, what))
            continue
        sizes.append((height, width))
        channels[depth] += 1
        bits[stored] += 1
    found = ImageFormat.checked(
        {"channels": max(channels, default=3), "bits": max(bits, default=8)}, where="the images' format"
    )
    return Decoded(found, tuple(sizes), tuple(problems))


def label_conflicts(samples: Iterable[Sample], hashes: dict[str, str]) -> tuple[Problem, ...]:
    """Return a problem for each sample whose bytes also stand under another label, or set of labels."""
    same: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.id in hashes:
            same[hashes[sample.id]].append(sample)
    problems: list[Problem] = []
    for twins in same.values():
        if len({twin.label for twin in twins}) < 2:
            continue
        for sample in twins:
            other = next(twin for twin in twins if twin.label != sample.label)
            what = f"labelled {_shown(sample)}, but the same bytes are labelled {_shown(other)} in {other.where}"
            problems.append(Problem(sample, what))
    return tuple(problems)


def repeated_files(samples: Iterable[Sample]) -> tuple[Problem, ...]:
    """Return a problem for each row whose file an earlier row names too."""
    seen: dict[str, Sample] = {}
    problems: list[Problem] = []
    for sample in samples:
        twin = seen.setdefault(sample.id, sample)
        if twin is not sample:
            problems.append(Problem(sample, f"the same file stands in row {twin.row} too; keep one of them"))
    return tuple(problems)


def lone_classes(samples: Iterable[Sample], task: Task = Task.MULTICLASS) -> tuple[Problem, ...]:
    """Return a problem for each class that has a single sample: it can't be trained and tested.

    In a multi-label task, what is left out can leave another class with a single sample; that is found as well.
    """
    left = list(samples)
    problems: list[Problem] = []
    while True:
        by_class: dict[str, list[Sample]] = defaultdict(list)
        for sample in left:
            for name in classes_of(sample, task):
                by_class[name].append(sample)
        lone: dict[tuple[str, int | None], Problem] = {}
        for name, found in by_class.items():
            if len(found) == 1:
                what = f"the only usable sample of class {name!r}; a class needs two or more"
                lone.setdefault((found[0].id, found[0].row), Problem(found[0], what))
        if not lone:
            return tuple(problems)
        problems += lone.values()
        left = [sample for sample in left if (sample.id, sample.row) not in lone]


def _shown(sample: Sample) -> str:
    return repr(sample.label) if sample.label else "with none of the classes"


def _hash(sample: Sample) -> str:
    check_suffix(sample.path)
    try:
        with sample.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"{sample.path}: can't be read: {reason(error)}") from error


def _decode(sample: Sample) -> tuple[int, int, int, int]:
    pixels = read_image(sample.path)
    height, width, channels = pixels.shape
    return height, width, channels, pixels.dtype.itemsize * 8


def _each(
    samples: tuple[Sample, ...], work: Callable[[Sample], R], track: Track, what: str
) -> Iterator[tuple[Sample, R | ImageError]]:
    """Yield each sample with what `work` returned for it, or the ImageError it raised, in order."""

    def guarded(sample: Sample) -> R | ImageError:
        try:
            return work(sample)
        except ImageError as error:
            return ImageError(_with_row(sample, error))

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = pool.map(guarded, samples)
        yield from zip(samples, track(results, what, len(samples)), strict=True)


def _with_row(sample: Sample, error: ImageError) -> str:
    text = str(error)
    if sample.row is None:
        return text
    return text.replace(str(sample.path), sample.where, 1)
