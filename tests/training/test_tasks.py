"""Binary, multiclass and multi-label tasks, and the backbones of both libraries, through the same functions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging_ft.export.onnx import export_run
from imaging_ft.inference import Device
from imaging_ft.inference.listing import find_images
from imaging_ft.inference.predictions import predict_files
from imaging_ft.inference.runner import Runner
from imaging_ft.report.measure import measure
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.train import train
from imaging_ft.types import Json
from tests.conftest import LABELS, write_dataset
from tests.export import multilabel

TINY: Json = {"model": "test_resnet", "weights": "none", "size": 32, "precision": "fp32", "augmentation": "none"}


def tiny(**values: Any) -> TrainSettings:
    return TrainSettings.checked(TINY | values, where="test")


def chain(dataset: str, folder: Path, settings: TrainSettings) -> tuple[Json, Runner]:
    """Train and export, and return the summary and a runner of the exported file."""
    summary = train(dataset, folder / "run", settings)
    export_run(folder / "run", folder / "model.onnx")
    return summary, Runner.open(folder / "model.onnx", device=Device.CPU)


def test_a_multi_label_task_trains_exports_predicts_and_reports(tmp_path: Path) -> None:
    dataset = multilabel.write_dataset(tmp_path / "data", groups=12)
    settings = tiny(
        epochs=12, learning_rate=5e-3, batch_size=16, operating_point="sensitivity=0.8", class_weights="auto"
    )
    summary, runner = chain(str(dataset), tmp_path, settings)
    assert summary["validation"]["balanced_accuracy"] > 0.6
    assert summary["operating_points"]["classes"]["bar"]["sensitivity"] >= 0.8
    found = next(iter(predict_files(runner, find_images([tmp_path / "data" / "images"])[-1:])))
    assert found.status == "ok"
    assert set((found.label or "").split("|")) <= {"", *LABELS}
    report = measure(runner, str(dataset), suite="camera").report
    assert report.overall.metrics["sensitivity[bar]"].value > 0.3
    assert report.overall.n == 24


def test_a_multi_label_probe_starts_better_than_chance(tmp_path: Path) -> None:
    dataset = multilabel.write_dataset(tmp_path / "data", groups=12)
    settings = TrainSettings(size=64, precision="fp32", augmentation="none", epochs=0)
    summary = train(str(dataset), tmp_path / "run", settings)
    assert summary["probe"]["head"] == "probe"
    assert summary["validation"]["balanced_accuracy"] > 0.65


def test_a_binary_task_trains_exports_and_reports(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data", groups=16, per_group=4)
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(line for line in lines if ",bar," not in line) + "\n")
    summary, runner = chain(str(manifest), tmp_path, tiny(epochs=2, preset="robust"))
    assert 0 <= summary["validation"]["auroc"] <= 1
    assert runner.bundle.names == ["disc", "ring"]
    report = measure(runner, str(manifest), suite="camera").report
    assert report.overall.n == 16
    assert {"sensitivity[disc]", "sensitivity[ring]"} <= set(report.overall.metrics)


@pytest.mark.parametrize(
    ("model", "size"),
    [("monai/densenet121", 32), ("timm/test_convnext", 64), ("timm/resnet18", 32), ("timm/mobilenetv3_small_050", 32)],
)
def test_backbones_of_both_libraries_train_export_and_report(model: str, size: int, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", groups=16, per_group=1)
    summary, runner = chain(str(dataset), tmp_path, tiny(model=model, size=size, epochs=1, batch_size=12))
    assert summary["model"] == model
    assert runner.bundle.parity.top1_agreement == 1
    found = runner.predict([np.zeros((50, 70, 1), np.uint8)])
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert measure(runner, str(dataset), suite="radiograph").report.overall.n == 6
