"""Folders that come into a model repository together, or not at all."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imaging_ft.data.lock import held
from imaging_ft.errors import InputError

CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class Folder:
    """A model's folder."""

    name: str
    heading: str
    """The first line of its configuration, by which a later write knows the folder as its own."""
    config: str
    """The rest of it."""
    files: dict[str, bytes]
    """What lies beside the configuration, by path."""


def versions(there: Path) -> list[int]:
    """Return the versions that a model's folder holds, in their order."""
    if not there.is_dir():
        return []
    names = [each.name for each in there.iterdir() if each.is_dir()]
    return sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]*", name))


@contextmanager
def gathering(root: Path) -> Iterator[Path]:
    """Give an empty folder beside the repository, in which Triton would take it for a model; one writer at a time.

    What a killed write left is mended first. Raises OSError, and DataError where the lock can't be made.
    """
    part = root.parent / f".{root.name}.part"
    with held(root.parent / f".{root.name}.lock"):
        _put_back(part, root)
        if part.exists():
            shutil.rmtree(part)
        try:
            yield part
        finally:
            if part.exists() and not _half_done(part):  # else it holds the only copy, for the next write to put back
                shutil.rmtree(part)


def stage(folder: Folder, part: Path, root: Path, version: int) -> None:
    """Write a folder into `part`, with the other versions that the repository holds of it.

    Raises InputError where the repository holds another model of that name.
    """
    made, there = part / "new" / folder.name, root / folder.name
    made.mkdir(parents=True)
    if there.exists():
        _refuse_other(there, folder)
        for kept in versions(there):
            if kept != version:
                shutil.copytree(there / str(kept), made / str(kept))
    for path, content in folder.files.items():
        (made / path).parent.mkdir(exist_ok=True)
        (made / path).write_bytes(content)
    (made / CONFIG).write_text(f"{folder.heading}\n{folder.config}", encoding="utf-8")


def _refuse_other(there: Path, folder: Folder) -> None:
    config = there / CONFIG
    first = config.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if config.is_file() else ""
    if first != folder.heading:
        raise InputError(f"{there}: holds another model, which is not overwritten; choose another name or folder")


def swap(part: Path, root: Path, names: Sequence[str]) -> None:
    """Put the staged folders in place of the old ones, or leave all as it was.

    The last of `names` is the one that needs the others: it leaves first and comes last, and its coming ends the swap.
    """
    new, old = part / "new", part / "old"
    old.mkdir()
    try:
        for name in reversed(names):
            if (root / name).exists():
                (root / name).replace(old / name)
        for name in names:
            (new / name).replace(root / name)
    except BaseException:
        if any(new.iterdir()):
            for name in names:
                if not (new / name).exists() and not (old / name).exists():  # it was the first of its name
                    shutil.rmtree(root / name)
        _put_back(part, root)
        raise


def _half_done(part: Path) -> bool:
    """Return whether a swap was begun, and not ended: something old is out, and something new isn't in."""
    new, old = part / "new", part / "old"
    return old.is_dir() and any(old.iterdir()) and new.is_dir() and any(new.iterdir())


def _put_back(part: Path, root: Path) -> None:
    """Undo a swap that is half done; the folder that needs the others isn't in then, and comes back last."""
    if not _half_done(part):
        return
    for there in sorted((part / "old").iterdir(), reverse=True):  # <name>_pre, <name>_cls, <name>
        if (root / there.name).exists():
            shutil.rmtree(root / there.name)
        there.replace(root / there.name)
