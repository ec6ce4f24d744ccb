"""A small real classifier with validation images, quick to export: what the tests of the export share."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imaging_ft.data import Sample
from imaging_ft.export.graph import Built, build
from imaging_ft.export.target import load_target
from imaging_ft.export.validation import Validation
from imaging_ft.models.factory import NONE, Classifier, create
from imaging_ft.preprocess import InputSpec
from imaging_ft.training.run import ModelInfo
from imaging_ft.types import Pixels, Task

LABELS = ("a", "b", "c")
SIZE = 64


@cache
def model_of(backbone: str = "timm/test_resnet", seed: int = 0) -> Classifier:
    """Return a net with random weights and decided answers: its head is made steep."""
    torch.manual_seed(seed)
    model = create(backbone, classes=len(LABELS), weights=NONE, size=SIZE).eval()
    with torch.no_grad():
        model.head.weight.mul_(20)
    return model


def info_of(backbone: str = "timm/test_resnet", **changes: Any) -> ModelInfo:
    values: dict[str, Any] = {
        "backbone": backbone,
        "task": Task.MULTICLASS,
        "labels": LABELS,
        "input": InputSpec(channels=1, height=SIZE, width=SIZE),
        "temperature": 1.5,
        "thresholds": dict.fromkeys(LABELS, 0.5),
        "metrics": {},
        "provenance": {},
    }
    return ModelInfo.checked(values | changes, where="test")


def images_of(spec: InputSpec, count: int = 12, *, seed: int = 0) -> list[Pixels]:
    """Return pictures of blobs [h, w, channels] of two sizes, in the spec's dtype."""
    rng = np.random.default_rng(seed)
    found: list[Pixels] = []
    for index in range(count):
        height, width = ((72, 80), (90, 70))[index % 2]
        rows, columns = np.mgrid[:height, :width]
        image = rng.normal(0.2, 0.05, (height, width, spec.channels))
        for _ in range(4):
            top, left, spread = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(4, 20)
            blob = np.exp(-((rows - top) ** 2 + (columns - left) ** 2) / (2 * spread**2))
            image += blob[..., None] * rng.uniform(0.2, 0.9, spec.channels)
        found.append((np.clip(image, 0, 1) * spec.full_scale).astype(spec.dtype))
    return found


def validation_of(model: Classifier, info: ModelInfo, count: int = 12, *, suite: str = "mr") -> Validation:
    """Return images with the model's own answers as their labels, so that it's right of all of them."""
    from imaging_ft.export.parity import reference_logits

    images = images_of(info.input, count)
    said = reference_logits(model, info.input, images).argmax(axis=1)
    samples = [Sample(f"{index}.png", Path(f"{index}.png"), "a") for index in range(count)]
    return Validation(samples, images, np.eye(len(LABELS), dtype=np.bool_)[said], suite)


@cache
def built_for(target: str, backbone: str = "timm/test_resnet") -> Built:
    return build(model_of(backbone), info_of(backbone), load_target(target), embedding=True)


SPEC_SHAPE = (1, SIZE, SIZE)
"""Of the network's levels: channels, height, width."""
