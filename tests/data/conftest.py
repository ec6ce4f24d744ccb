"""Small real data sets in a temporary folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

Rows = Sequence[Sequence[str]]


def write_image(path: Path, seed: int) -> Path:
    """Write an 8 x 8 gray image whose bytes depend on the seed alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    path.write_bytes(cv2.imencode(path.suffix.lower() or ".png", pixels)[1].tobytes())
    return path


class Maker:
    """Writes folders and manifests of small images; every image has its own bytes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seed = 0

    def image(self, name: str) -> Path:
        self._seed += 1
        return write_image(self.root / name, self._seed)

    def folder(self, counts: dict[str, int]) -> Path:
        """Write `count` images into each folder, such as `train/cat`."""
        for place, count in counts.items():
            for index in range(count):
                self.image(f"{place}/{index:02}.png")
        return self.root

    def manifest(self, rows: Rows, *, header: str = "image,label", name: str = "manifest.csv") -> Path:
        """Write a CSV manifest, and each image that it names and that isn't there yet."""
        for row in rows:
            if row[0] and not (self.root / row[0]).exists():
                self.image(row[0])
        path = self.root / name
        path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
        return path

    def good(self, *, per_class: int = 6) -> list[list[str]]:
        """Return the rows of a data set with nothing wrong: two classes."""
        return [[f"{label}{index}.png", label] for label in ("cat", "dog") for index in range(per_class)]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "set")


@pytest.fixture
def listing() -> Callable[[Path], dict[str, tuple[int, int]]]:
    """A function that returns every path below a folder with its size and modification time."""

    def list_all(folder: Path) -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}

    return list_all
