"""Fixtures that many tests share: a small data set, one run trained on it, one model exported from it."""

import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["IMAGING_FT_CACHE"] = ""  # a test that is about the cache turns it on, in a folder of its own

LABELS = ("bar", "disc", "ring")
REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


def draw(label: str, rng: np.random.Generator, *, size: tuple[int, int] = (72, 80)) -> np.ndarray:
    """Return a gray picture [height, width] uint8 of a bar, a disc or a ring at a random place."""
    image = rng.normal(60, 12, size)
    centre = (int(rng.integers(28, size[1] - 28)), int(rng.integers(28, size[0] - 28)))
    radius = int(rng.integers(12, 20))
    if label == "bar":
        turn = rng.uniform(0, np.pi)
        step = (int(radius * np.cos(turn)), int(radius * np.sin(turn)))
        ends = [(centre[0] - step[0], centre[1] - step[1]), (centre[0] + step[0], centre[1] + step[1])]
        cv2.line(image, *ends, color=220.0, thickness=6)
    else:
        cv2.circle(image, centre, radius, color=220.0, thickness=-1 if label == "disc" else 4)
    return np.clip(image, 0, 255).astype(np.uint8)


def write_dataset(folder: Path, *, groups: int = 8, per_group: int = 2, seed: int = 0) -> Path:
    """Write a manifest of gray PNG images: for each label `groups` patients with `per_group` images each.

    Columns: image, label, split, group, site, angle. Six of eight groups train, one validates, one tests.
    """
    rng = np.random.default_rng(seed)
    rows = ["image,label,split,group,site,angle"]
    (folder / "images").mkdir(parents=True)
    for label in LABELS:
        for group in range(groups):
            split = ["test", "val", *["train"] * 6][group % 8]
            for index in range(per_group):
                name = f"images/{label}-{group}-{index}.png"
                cv2.imwrite(str(folder / name), draw(label, rng))
                site = "north" if group % 2 else "south"
                rows.append(f"{name},{label},{split},{label}-{group},{site},{int(rng.integers(-40, 40))}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest


@dataclass(frozen=True)
class Trained:
    """A finished run and the data set it was trained on."""

    run: Path
    dataset: Path


@dataclass(frozen=True)
class Exported:
    """An exported model, its data set (a manifest with a test split) and one test image."""

    model: Path
    dataset: Path
    image: Path
    run: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One short real run on the small data set."""
    from imaging_ft.training.settings import TrainSettings
    from imaging_ft.training.train import train

    folder = tmp_path_factory.mktemp("trained")
    dataset = write_dataset(folder / "data", groups=16, per_group=3)
    settings = TrainSettings(epochs=2, size=64, precision="fp32", batch_norm="trained", augmentation="radiograph")
    train(str(dataset), folder / "run", settings)
    return Trained(folder / "run", dataset)


@pytest.fixture(scope="session")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The run's model as one ONNX file."""
    from imaging_ft.export.onnx import export_run

    model = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_run(trained.run, model)
    image = next((trained.dataset.parent / "images").glob("ring-0-*.png"))
    return Exported(model, trained.dataset, image, trained.run)


@pytest.fixture
def real_data() -> Path:
    """The folder of real images beside the checkout."""
    if not REAL.is_dir():
        pytest.skip(f"the real images are not at {REAL.parent.name}/{REAL.name} beside the checkout")
    return REAL


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Let memory be freed by reference counts alone while a test runs."""
    gc.disable()
    yield
    gc.enable()
