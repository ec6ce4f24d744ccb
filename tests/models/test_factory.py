"""One classifier around every backbone: names, features, weights that can't be had."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from imaging_ft.errors import WeightsError
from imaging_ft.models.factory import Classifier, create

HUB = """
import sys
from imaging_ft.errors import WeightsError
from imaging_ft.models.factory import create
try:
    create("resnet18", classes=2)
except WeightsError as error:
    print(error)
"""


def levels(seed: int = 0, channels: int = 3) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (2, channels, 64, 64), dtype=np.uint8)
    return torch.from_numpy(pixels)


def features(model: Classifier, batch: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval().embed(batch)


def test_embedded_weights_give_the_same_features_each_time_and_not_random_ones() -> None:
    batch = levels()
    first, again = (features(create("tf_efficientnet_lite0", classes=3), batch) for _ in range(2))
    torch.manual_seed(0)
    scratch = features(create("tf_efficientnet_lite0", classes=3, weights="none"), batch)
    assert first.shape == (2, 1280)
    assert torch.isfinite(first).all()
    assert torch.equal(first, again)
    assert not torch.allclose(first, scratch, atol=1e-2)


def test_embedded_weights_know_imagenets_edges() -> None:
    """Random filters tell a picture from its shuffled pixels no better than from another shuffle; trained ones do."""
    model = create("tf_efficientnet_lite0", classes=2)
    ramp = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (64, 1))
    disc = np.where(np.hypot(*np.mgrid[-32:32, -32:32]) < 20, 220, 40).astype(np.uint8)
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(disc.ravel()).reshape(64, 64) for _ in range(2)]
    batch = torch.from_numpy(np.stack([disc, ramp, *shuffled])[:, np.newaxis].repeat(3, axis=1))
    found = torch.nn.functional.normalize(features(model, batch), dim=1)
    assert found[2] @ found[3] > found[0] @ found[2] + 0.2


def test_a_gray_image_is_seen_as_the_same_image_in_rgb() -> None:
    model = create("tf_efficientnet_lite0", classes=2)
    gray = levels(channels=1)
    assert torch.equal(features(model, gray), features(model, gray.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("name", ["resnet18", "timm/mobilenetv3_small_050", "monai/densenet121", "monai/resnet18"])
def test_a_backbone_from_scratch_gives_logits_for_its_head(name: str) -> None:
    model = create(name, classes=5, weights="none").eval()
    with torch.inference_mode():
        assert model(levels(channels=1)).shape == (2, 5)
    assert model.name.endswith(name)
    assert model.name.count("/") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", r"timm has no model named 'resnet81'; did you mean 'resnet\w+'\?"),
        ("timm/tf_efficientnet_lite9", "did you mean 'tf_efficientnet_lite"),
        (
            "timm/resnet18.a9_in1k",
            r"timm has no weights named 'resnet18\.a9_in1k'; did you mean 'resnet18\.a\d_in1k'\?",
        ),
        ("resnt18.a1_in1k", r"timm has no model named 'resnt18\.a1_in1k'; did you mean 'resnet18'\?"),
        ("monai/densenet12", "no MONAI model named 'densenet12'; did you mean 'densenet121'"),
        ("keras/resnet50", "no model library 'keras'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        create(name, classes=2, weights="none")
    assert len(str(caught.value)) < 300


def test_weights_that_monai_has_not_are_refused_with_what_to_do() -> None:
    with pytest.raises(WeightsError, match=r"MONAI's are for volumes.*take timm/resnet18, give a local file"):
        create("monai/resnet18", classes=2)


@pytest.mark.parametrize("offline", ["", "1"])
def test_hub_weights_without_a_network_end_quickly_in_one_line(offline: str, tmp_path: Path) -> None:
    """Left to itself the hub's client retries 10 times, over 46 seconds, with two lines each."""
    lost = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": offline}
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")} | lost
    done = subprocess.run(
        [sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, timeout=40, check=True
    )
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert line.startswith("the pretrained weights of timm/resnet18 can't be had: ")
    for way in ("--set weights=PATH", "docs/models.md", "--set weights=none", "tf_efficientnet_lite0"):
        assert way in line
