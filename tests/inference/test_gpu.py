"""What only a GPU can show; skipped, with the reason, where there is none. Not yet run on one."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from imaging_ft.errors import DeviceError
from imaging_ft.image import read_image
from imaging_ft.inference import Device
from imaging_ft.inference.runner import Runner

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def _needs_gpu() -> None:
    try:
        subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("nvidia-smi finds no GPU")


@pytest.mark.parametrize("device", [Device.CUDA, Device.TENSORRT])
def test_a_gpu_predicts_what_the_cpu_predicts(device: Device, exported) -> None:
    images = [read_image(path) for path in sorted((exported.dataset.parent / "images").iterdir())[:9]]
    try:
        runner = Runner.open(exported.model, device=device)
    except DeviceError as error:
        if device is Device.TENSORRT:
            pytest.skip(f"TensorRT can't start: {error}")
        raise
    assert runner.device is device
    cpu = Runner.open(exported.model, device=Device.CPU).predict(images)
    found = runner.predict(images)
    assert np.abs(found - cpu).max() < 0.02
    assert (found.argmax(axis=1) == cpu.argmax(axis=1)).all()


def test_auto_takes_the_gpu(exported) -> None:
    assert Runner.open(exported.model, device=Device.AUTO).device is Device.CUDA


def test_training_runs_on_the_gpu(trained, tmp_path: Path) -> None:
    from imaging_ft.training.settings import TrainSettings
    from imaging_ft.training.train import train

    summary = train(str(trained.dataset), tmp_path / "run", TrainSettings(epochs=1, size=64, device="cuda"))
    assert summary["cost"]["device"] == "cuda"
