"""A small multi-label data set, and a model of it that was never trained by `train`: a head fitted on a random net."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from imaging_ft.bundle import VectorScaling
from imaging_ft.data import Prepared, load_images, prepare
from imaging_ft.export.onnx import export_run
from imaging_ft.models.factory import NONE, Classifier, create
from imaging_ft.preprocess import InputSpec
from imaging_ft.training.run import ModelInfo, RunFolder
from imaging_ft.types import Split
from tests.conftest import LABELS, draw

BACKBONE = "timm/test_resnet"
SHOWN = ("", "bar", "disc", "ring", "bar|disc", "bar|ring", "disc|ring", "bar|disc|ring")
SCALING = VectorScaling(scale=(1.5, 0.8, 1.25), bias=(0.25, -0.5, 0.125))
THRESHOLDS = {"bar": 0.35, "disc": 0.5, "ring": 0.6}
SPEC = InputSpec(channels=1, height=64, width=64)


@dataclass(frozen=True)
class Multilabel:
    """A data set (a manifest with every split), a run folder and the model exported from it."""

    dataset: Path
    run: Path
    model: Path


def write_dataset(folder: Path, *, groups: int = 32, seed: int = 0) -> Path:
    """Write gray PNG images of every set of bar, disc and ring: `groups` patients with one image of each set.

    Columns: image, labels, split, group, site. A half of the patients train, a quarter each validate and test.
    """
    rng = np.random.default_rng(seed)
    rows = ["image,labels,split,group,site"]
    (folder / "images").mkdir(parents=True)
    for group in range(groups):
        split = ("train", "val", "train", "test")[group % 4]
        for index, shown in enumerate(SHOWN):
            name = f"images/{group:02}-{index}.png"
            parts = [draw(label, rng) for label in shown.split("|") if label]
            noise = np.clip(rng.normal(60, 12, (72, 80)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name), np.max([noise, *parts], axis=0))
            rows.append(f"{name},{shown},{split},p{group},{'north' if group % 8 < 4 else 'south'}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest


def write_run(dataset: Path, folder: Path, **changes: Any) -> Path:
    """Write a run folder for a manifest; `changes` are of its `ModelInfo`."""
    torch.manual_seed(0)
    data = prepare(str(dataset))
    model = create(BACKBONE, classes=len(data.labels), weights=NONE).eval()
    _fit_head(model, data)
    values: dict[str, Any] = {
        "backbone": model.name,
        "task": data.card.task,
        "labels": data.labels,
        "input": SPEC,
        "temperature": 1.0,
        "vector_scaling": SCALING,
        "thresholds": THRESHOLDS,
        "metrics": {},
        "provenance": {
            "backbone": model.name,
            "dataset": {"name": data.card.name, "fingerprint": data.fingerprint, "split_seed": 0},
        },
    }
    run = RunFolder.create(folder, overwrite=False)
    run.write_json("dataset.json", {**data.summary(), "argument": str(dataset), "split_seed": 0})
    run.write_model(model, ModelInfo.checked(values | changes, where="test"))
    return folder


def _fit_head(model: Classifier, data: Prepared) -> None:
    """Fit the head on what the random net sees in the training images: logits of about -3 and 3."""
    images = load_images(data, data.of(Split.TRAIN), SPEC)
    with torch.inference_mode():
        features = model.embed(torch.from_numpy(images.levels.transpose(0, 3, 1, 2).copy())).double().numpy()
    spread = features.std(axis=0) + 1e-6
    fitted = Ridge(alpha=1.0).fit(features / spread, 6.0 * images.targets - 3.0)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(fitted.coef_ / spread))
        model.head.bias.copy_(torch.from_numpy(fitted.intercept_))


def exported(factory: pytest.TempPathFactory) -> Multilabel:
    """Return the data set, its run and its model; made once for all tests of a session."""
    folder = factory.getbasetemp() / "multilabel"
    made = Multilabel(folder / "data" / "manifest.csv", folder / "run", folder / "model.onnx")
    if not made.model.is_file():
        export_run(write_run(write_dataset(folder / "data"), made.run), made.model)
    return made


def exported_single(factory: pytest.TempPathFactory) -> Multilabel:
    """Return the same with one class an image, of those images that show just one."""
    folder = factory.getbasetemp() / "single_label"
    made = Multilabel(folder / "data" / "manifest.csv", folder / "run", folder / "model.onnx")
    if not made.model.is_file():
        write_dataset(folder / "data")
        rows = [row for row in made.dataset.read_text().splitlines()[1:] if row.split(",")[1] in LABELS]
        made.dataset.write_text("\n".join(["image,label,split,group,site", *rows]) + "\n")
        export_run(write_run(made.dataset, made.run), made.model)
    return made
