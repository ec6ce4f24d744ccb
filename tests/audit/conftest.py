"""A small data set with one of each thing that a check should find, checked once with the network and once without."""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from imaging_ft.audit.check import Checked, check_dataset
from tests.conftest import write_dataset


@dataclass(frozen=True)
class Planted:
    """A manifest, and which images were planted in it."""

    manifest: Path
    leak: tuple[str, str]
    """A training image and its re-encoded, brighter copy in test."""
    conflict: tuple[str, str]
    """Two near-identical training images with different labels."""
    mislabelled: tuple[str, ...]
    blank: str
    dark: str


def plant(folder: Path) -> Planted:
    """Write the small data set with faults in it."""
    manifest = write_dataset(folder, groups=16, per_group=2)
    with manifest.open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}

    def add(name: str, pixels: np.ndarray, like: str, **changes: str) -> str:
        cv2.imwrite(str(folder / name), pixels)
        rows[name] = {**rows[like], "image": name, **changes}
        return name

    def pixels(name: str) -> np.ndarray:
        return np.asarray(cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE))

    bar, disc = "images/bar-3-0.png", "images/disc-3-0.png"
    brighter = np.clip(pixels(bar) * 1.1, 0, 255).astype(np.uint8)
    leak = add("images/leak.jpg", cv2.resize(brighter, (120, 108)), bar, split="test", group="elsewhere")
    conflict = add("images/conflict.jpg", pixels(disc), disc, label="ring", group="other")
    blank = add("images/blank.png", np.full((72, 80), 60, np.uint8), bar, group="blank")
    dark = add("images/dark.png", (pixels("images/bar-4-0.png") * 0.1).astype(np.uint8), bar, group="dark")
    mislabelled = ("images/bar-5-0.png", "images/disc-6-0.png", "images/ring-7-0.png")
    for name in mislabelled:
        rows[name]["label"] = {"bar": "disc", "disc": "bar", "ring": "bar"}[rows[name]["label"]]
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[bar]))
        writer.writeheader()
        writer.writerows(rows.values())
    return Planted(manifest, (bar, leak), (disc, conflict), mislabelled, blank, dark)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """The data set with faults."""
    return plant(tmp_path_factory.mktemp("planted") / "data")


@pytest.fixture(scope="session")
def checked(planted: Planted) -> Checked:
    """Its check, with the network."""
    return check_dataset(str(planted.manifest))


@pytest.fixture(scope="session")
def fast(planted: Planted) -> Checked:
    """Its check, without the network."""
    return check_dataset(str(planted.manifest), fast=True)
