"""Images in folders: `root/<class>/*` or `root/<split>/<class>/*`, found and not yet read."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imaging_ft.config import reason
from imaging_ft.errors import DataError
from imaging_ft.image import is_image_name, may_be_image
from imaging_ft.types import Split

SPLITS: dict[str, Split] = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
    "testing": Split.TEST,
}
"""What a split may be called, in lower case."""

_SHOWN = 6


@dataclass(frozen=True)
class Found:
    """One file in a class folder."""

    path: Path
    label: str
    split: Split | None


@dataclass(frozen=True)
class Layout:
    """What stands in a folder of class folders."""

    files: tuple[Found, ...]
    notes: tuple[str, ...]
    """What was passed over, and why."""
    outside: int = 0
    """How many images lie outside the class folders."""


def scan(root: Path) -> Layout:
    """Return the files of every class, sorted by path; hidden files and folders don't count.

    Links are followed. A file that is no image by its name is counted, not read; one without a suffix, or with a
    number for it, can be DICOM. Raises DataError where the folders are neither `<class>` nor `<split>/<class>`.
    """
    try:
        return _scan(root)
    except OSError as error:
        raise DataError(f"{error.filename or root}: can't be listed: {reason(error)}; check its permissions") from error


def _scan(root: Path) -> Layout:
    folders = _folders(root)
    by_split = [(folder, SPLITS[folder.name.lower()]) for folder in folders if _is_split(folder) and _folders(folder)]
    _refuse_other_shapes(root, folders, split=bool(by_split))
    parts: list[tuple[Path, Split | None]] = [*by_split] if by_split else [(root, None)]
    files: list[Found] = []
    notes: list[str] = []
    ignored: Counter[str] = Counter()
    outside = 0
    for part, split in parts:
        outside += sum(
            1 for path in part.iterdir() if is_image_name(path) and not _hidden(path.name) and path.is_file()
        )
        for folder in _folders(part):
            before = len(files)
            for path in sorted(_files(folder)):
                if not may_be_image(path):
                    ignored[path.suffix.lower()] += 1
                else:
                    files.append(Found(path, folder.name, split))
            if len(files) == before:
                notes.append(f"{folder}: no images in it, so it is not counted as a class")
    if by_split:
        used = {folder for folder, _ in by_split}
        others = [f"{folder.name}/" for folder in folders if folder not in used]
        notes += [f"not read, because they are none of train/, val/, test/: {_some(others)}"] if others else []
    if outside:
        notes.append(f"not read, because they lie outside the class folders: {outside} images")
    if ignored:
        notes.append(f"not read, because they are no images by name: {_some([f'{n} {s}' for s, n in _most(ignored)])}")
    return Layout(tuple(files), tuple(notes), outside)


def _refuse_other_shapes(root: Path, folders: list[Path], *, split: bool) -> None:
    """Raise DataError for folders nested otherwise: to read them anyway would drop classes or splits in silence."""
    if split or not folders:
        return
    if all(_is_split(folder) for folder in folders):
        names = ", ".join(f"{folder.name}/" for folder in folders)
        raise DataError(f"{root}: {names} without class folders; expected {root}/train/<class>/*.png")
    if len(folders) == 1 and len(_folders(folders[0])) > 1 and not any(map(is_image_name, folders[0].iterdir())):
        raise DataError(f"{root}: the classes lie one folder deeper; name {folders[0]} instead")
    for folder in folders:
        for inner in _folders(folder):
            if _is_split(inner):
                raise DataError(f"{inner}: a split inside a class folder; expected {root}/{inner.name}/{folder.name}/")


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if not _hidden(path.name) and path.is_dir())


def _files(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, links followed once, broken ones included."""
    seen: set[Path] = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_reraise):
        real = Path(place).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _hidden(name))
        yield from (Path(place) / name for name in files if not _hidden(name))


def _reraise(error: OSError) -> None:
    raise error


def _is_split(folder: Path) -> bool:
    return folder.name.lower() in SPLITS


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
