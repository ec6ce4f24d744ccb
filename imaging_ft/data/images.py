"""A split's images as the network sees them: decoded, windowed and resized once, and kept in a cache on disk.

The cache is memory-mapped, so that a large data set costs no memory and the next run on the same images starts
at once. It's keyed by the files' contents and the input contract: a changed image or setting is another key.
`IMAGING_FT_CACHE` names its folder (an empty value turns it off), `IMAGING_FT_CACHE_GB` its largest size.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imaging_ft.data.manifest import Sample
from imaging_ft.data.prepare import Prepared
from imaging_ft.errors import ConfigError
from imaging_ft.image import read_image
from imaging_ft.preprocess import InputSpec, prepare
from imaging_ft.types import Ints, Levels, Task, Track, silent

CACHE_VARIABLE = "IMAGING_FT_CACHE"
CACHE_SIZE_VARIABLE = "IMAGING_FT_CACHE_GB"
DEFAULT_CACHE_GB = 20.0
_FORM = "images/1"
"""Part of every key; it changes when decoding or resizing does."""

Targets = npt.NDArray[np.float32]
"""[n, classes]: one-hot, or for a multi-label task multi-hot."""


@dataclass(frozen=True)
class Images:
    """The images of one split, and what they show."""

    levels: Levels
    """[n, height, width, channels], as `preprocess.prepare` makes them."""
    targets: Targets

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def labels(self) -> Ints:
        """[n], the index of each image's class (of a multi-label task, of the first that it shows)."""
        return self.targets.argmax(axis=1)

    def take(self, positions: Ints) -> "Images":
        """Return some of the images, in the order given."""
        return Images(self.levels[positions], self.targets[positions])


def load_images(
    data: Prepared, samples: Sequence[Sample], spec: InputSpec, *, track: Track = silent, what: str = "loading"
) -> Images:
    """Return samples of a data set as the network sees them, from the cache where it holds them."""
    return Images(_levels(data, samples, spec, track, what), targets(samples, data.labels, data.card.task))


def input_spec(data: Prepared, **values: Any) -> InputSpec:
    """Return the input contract for a data set's images; `values` are its further fields, such as `height` and `mean`.

    Raises ConfigError where they don't fit together, such as a window on 8 bits.
    """
    own = {"channels": data.image.channels, "dtype": f"uint{data.image.bits}", "window": data.image.window}
    return InputSpec.checked(own | values, where=f"{data.card.name}: image")


def targets(samples: Sequence[Sample], labels: Sequence[str], task: Task) -> Targets:
    """Return what samples show as [n, classes]: one-hot, or multi-hot for a multi-label task."""
    index = {label: position for position, label in enumerate(labels)}
    found = np.zeros((len(samples), len(labels)), np.float32)
    for row, sample in enumerate(samples):
        for label in sample.labels if task is Task.MULTILABEL else (sample.label,):
            found[row, index[label]] = 1
    return found


def cache_folder() -> Path | None:
    """Return the folder of the image cache, or None where it's turned off."""
    named = os.environ.get(CACHE_VARIABLE)
    if named is not None:
        return Path(named).expanduser() if named else None
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "imaging_ft"


def _levels(data: Prepared, samples: Sequence[Sample], spec: InputSpec, track: Track, what: str) -> Levels:
    shape = (len(samples), spec.height, spec.width, spec.channels)
    folder = cache_folder()
    path = folder / f"{_key(data, samples, spec)}.npy" if folder else None
    if path is not None and (stored := _open(path, shape)) is not None:
        return stored
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part") if path else None
    levels = _new(temporary, shape)

    def fill(position: int) -> None:
        levels[position] = prepare(read_image(samples[position].path), spec)

    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for _ in track(pool.map(fill, range(len(samples))), what, len(samples)):
                pass
        if not isinstance(levels, np.memmap) or temporary is None or path is None:
            return levels
        levels.flush()
        temporary.replace(path)
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
    _evict(path.parent, keep=path)
    stored = _open(path, shape)  # by the name that it now has
    return levels if stored is None else stored


def _key(data: Prepared, samples: Sequence[Sample], spec: InputSpec) -> str:
    digest = hashlib.sha256(f"{_FORM}\n{spec.model_dump_json(exclude={'mean', 'std'})}\n".encode())
    for sample in samples:
        digest.update(data.hashes[sample.id].encode())
    return digest.hexdigest()[:32]


def _open(path: Path, shape: tuple[int, ...]) -> Levels | None:
    """Return the array in a cache file, or None where it isn't there or is of no use."""
    try:
        stored = np.load(path, mmap_mode="r")
        os.utime(path)  # eviction takes what was not used for longest
    except (OSError, ValueError, EOFError):
        return None
    return stored if stored.shape == shape and stored.dtype == np.uint8 else None


def _new(path: Path | None, shape: tuple[int, ...]) -> Levels:
    """Return an array to fill: in the cache where its disk has room for it twice, else in memory.

    A memory-mapped file that outgrows its disk ends the process, so room is looked for first.
    """
    if path is None or 0 in shape:
        return np.empty(shape, np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free > 2 * int(np.prod(shape)):
            return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    except OSError:
        pass  # a cache that can't be written costs time, no more
    return np.empty(shape, np.uint8)


def _evict(folder: Path, *, keep: Path) -> None:
    """Delete what was not used for longest until the cache fits its size.

    A file that another process evicted meanwhile, or still has open (on Windows), is passed over.
    """
    limit = _limit_bytes()
    found: list[tuple[float, int, Path]] = []
    for path in folder.glob("*.npy"):
        with suppress(OSError):
            known = path.stat()
            found.append((known.st_mtime, known.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            return
        if path != keep:
            with suppress(OSError):
                path.unlink(missing_ok=True)
                total -= size


def _limit_bytes() -> float:
    text = os.environ.get(CACHE_SIZE_VARIABLE, "")
    try:
        return (float(text) if text else DEFAULT_CACHE_GB) * 1e9
    except ValueError as error:
        raise ConfigError(f"{CACHE_SIZE_VARIABLE}={text}: not a number of gigabytes") from error
