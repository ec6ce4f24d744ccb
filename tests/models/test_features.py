"""Features of a frozen backbone: computed once, and never another model's or other images'."""

from pathlib import Path

import numpy as np
import pytest
import torch

from imaging_ft.errors import DeviceError
from imaging_ft.models.factory import Classifier, create
from imaging_ft.models.features import embed


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IMAGING_FT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def model() -> Classifier:
    torch.manual_seed(0)
    return create("resnet18", classes=2, weights="none")


def levels(n: int = 5, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 64, 64, channels), dtype=np.uint8)


def test_features_are_the_networks_in_evaluation_mode_whatever_the_batch(model: Classifier, cache: Path) -> None:
    images = levels()
    model.train()
    found = embed(model, images, batch_size=2, cache=False)
    assert not model.training
    with torch.inference_mode():
        wanted = model.embed(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    assert found.dtype == np.float32
    assert found == pytest.approx(wanted, abs=1e-4)
    assert not cache.exists()


def test_the_second_time_features_come_from_the_cache(model: Classifier, cache: Path) -> None:
    first = embed(model, levels())
    (file,) = cache.glob("*.npy")
    np.save(file, first + 1)
    assert embed(model, levels()) == pytest.approx(first + 1)


def test_other_images_weights_or_statistics_are_other_features(cache: Path) -> None:
    torch.manual_seed(0)
    model = create("resnet18", classes=2, weights="none")
    embed(model, levels())
    embed(model, levels(seed=1))
    with torch.no_grad():
        model.get_parameter("backbone.layer4.1.bn2.weight").add_(1)
    embed(model, levels())
    model.get_buffer("backbone.bn1.running_mean").add_(1)
    embed(model, levels())
    assert len(list(cache.glob("*.npy"))) == 4


def test_a_broken_cache_file_is_computed_again(model: Classifier, cache: Path) -> None:
    first = embed(model, levels())
    (file,) = cache.glob("*.npy")
    file.write_bytes(file.read_bytes()[:100])
    assert embed(model, levels()) == pytest.approx(first)
    assert [path for path in cache.iterdir() if path.suffix != ".npy"] == []


def test_a_device_that_is_not_there_is_refused(model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="--device cuda: torch sees no CUDA device"):
        embed(model, levels(), device="cuda")
    with pytest.raises(DeviceError, match="--device tpu: write auto, cpu or cuda"):
        embed(model, levels(), device="tpu")
