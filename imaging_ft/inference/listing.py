"""The image files that paths name, one after the other: a folder may hold a million."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from imaging_ft.errors import InputError
from imaging_ft.image import may_be_image


def list_images(paths: Iterable[Path]) -> Iterator[Path]:
    """Return the image files that paths name: files as given, folders searched through, in a stable order.

    In a folder, files that may be images by their names are taken; hidden ones are not. No file comes twice, and no
    more than the names in one folder are in memory. Raises InputError where a path doesn't exist, before the first
    file, or a folder turns out to hold no image.
    """
    given = list(dict.fromkeys(paths))
    for path in given:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    folders = [path.resolve() for path in given if path.is_dir()]
    return _each(path for path in given if not any(folder in path.resolve().parents for folder in folders))


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return `list_images` as a list."""
    return list(list_images(paths))


def _each(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        empty = True
        for file in _inside(path):
            empty = False
            yield file
        if empty:
            raise InputError(f"{path}: no images in this folder")


def _inside(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
    except PermissionError as error:
        raise InputError(f"{folder}: this folder can't be read: {error.strerror}") from error
    for name, is_folder in entries:
        if name.startswith("."):
            continue
        path = folder / name
        if is_folder:
            yield from _inside(path)
        elif may_be_image(path) and path.is_file():
            yield path
