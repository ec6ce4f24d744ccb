"""The measure that is the same for all: the model as a bundle, under the domain's condition suite."""

from pathlib import Path

from benchmarks.training.peer import Peer
from imaging_ft.bundle import file_sha256
from imaging_ft.data.images import targets
from imaging_ft.errors import DataError
from imaging_ft.export.onnx import DEFAULT_TARGET, assemble
from imaging_ft.export.target import load_target
from imaging_ft.export.validation import Validation
from imaging_ft.image import read_image
from imaging_ft.inference import Device
from imaging_ft.inference.runner import Runner
from imaging_ft.models.factory import Classifier
from imaging_ft.preprocess import conform
from imaging_ft.report.measure import measure
from imaging_ft.report.result import Evidence, Report
from imaging_ft.training.run import ModelInfo, replacing
from imaging_ft.types import Json, Split, Status

_PARITY_IMAGES = 64
SEVERITIES = (1, 3, 5)
"""What every result was measured at, whatever a suite's own are."""


def write_bundle(model: Classifier, peer: Peer, out: Path) -> None:
    """Write a peer's model as the bundle that ours would be: the same preprocessing, the same parity gate."""
    import torch

    data = peer.frozen.data
    info = ModelInfo(
        backbone=model.name,
        task=data.card.task,
        labels=data.labels,
        input=peer.spec,
        temperature=1.0,
        thresholds=dict.fromkeys(data.labels, 0.5),
        metrics={},
        provenance={
            "dataset": {"name": data.card.name, "fingerprint": data.fingerprint, "split_seed": 0},
            "backbone": model.name,
            "practised": peer.recipe.practised(),
            "conditions": data.card.conditions,
            "positive": list(data.card.positive),
        },
    )
    model = model.cpu().to(memory_format=torch.contiguous_format).eval()  # pyright: ignore[reportCallIssue]
    samples = data.of(Split.VAL)[:_PARITY_IMAGES]
    images = [conform(read_image(sample.path), info.input) for sample in samples]
    truth = targets(samples, list(info.labels), info.task) > 0
    validation = Validation(samples, images, truth, data.card.conditions or "camera")
    _, proto = assemble(model, info, validation, load_target(DEFAULT_TARGET))
    with replacing(out) as temporary:
        temporary.write_bytes(proto.SerializeToString())


def measured(bundle: Path, card: Path | str, *, threads: int) -> Json:
    """Return what a bundle reaches on the test split, clean and in every synthetic cell.

    Raises DataError where the test split is too small for any metric.
    """
    runner = Runner.open(bundle, device=Device.CPU, threads=threads)
    report = measure(runner, str(card), severities=SEVERITIES, show=False).report
    if report.overall.status is Status.UNDEFINED:
        raise DataError(f"{card}: {report.overall.n} test images are too few to measure; raise --limit-test")
    cells = [cell for cell in report.cells if cell.source == "synthetic" and cell.status is not Status.UNDEFINED]
    return {
        "model_sha256": file_sha256(bundle),
        "suite": report.suite,
        "severities": report.severities,
        "practised": sorted(info.name for info in report.conditions if info.practised),
        "test": {"n": report.overall.n, "classes": report.dataset.classes, "fingerprint": report.dataset.fingerprint},
        "clean": _values(report.overall),
        "sensitivity": _sensitivity(report),
        "cells": [{"conditions": cell.conditions, **_values(cell)} for cell in cells],
    }


def _values(found: Evidence) -> Json:
    return {name: found.metrics[name].value for name in ("accuracy", "balanced_accuracy")}


def _sensitivity(report: Report) -> Json:
    """Return the clean sensitivity of each class, the positive ones first."""
    first = [*report.positive, *(label for label in report.model.labels if label not in report.positive)]
    metrics = report.overall.metrics
    return {name: metrics[f"sensitivity[{name}]"].value for name in first if f"sensitivity[{name}]" in metrics}
