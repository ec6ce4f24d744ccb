"""Weights from files: state dicts are read, code is not, and another model's are refused."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from imaging_ft.errors import WeightsError
from imaging_ft.models.factory import create


class Malicious:
    """What a pickle may hold: a call that runs when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return create("resnet18", classes=2, weights="none").backbone.state_dict()


@pytest.mark.parametrize("kind", ["model.safetensors", "model.pt", "nested.pth", "parallel.pth", "old.pth"])
def test_a_state_dict_is_loaded_whatever_wraps_it(kind: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / kind
    if kind == "model.safetensors":
        save_file(state, path)
    elif kind == "nested.pth":
        torch.save({"state_dict": state, "epoch": 3}, path)
    elif kind == "parallel.pth":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    elif kind == "old.pth":  # from before batch normalisation counted its batches
        torch.save({name: value for name, value in state.items() if "num_batches" not in name}, path)
    else:
        torch.save(state | {"fc.weight": torch.zeros(1000, 512)}, path)
    loaded = create("resnet18", classes=2, weights=str(path)).backbone.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    touched, path = tmp_path / "touched", tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"weight": Malicious(touched)}, protocol=2))
    with pytest.raises(WeightsError, match=r"model.pt: not a state dict that can be read safely") as caught:
        create("resnet18", classes=2, weights=str(path))
    assert "\n" not in str(caught.value)
    assert not touched.exists()


def test_another_models_state_dict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(create("mobilenetv3_small_050", classes=2, weights="none").backbone.state_dict(), path)
    with pytest.raises(WeightsError, match=r"other.safetensors: holds no conv1.weight; .*another model"):
        create("resnet18", classes=2, weights=str(path))


def test_a_tensor_of_another_shape_is_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    with pytest.raises(WeightsError, match=r"conv1.weight is \(64, 1, 7, 7\), but the model has \(64, 3, 7, 7\)"):
        create("resnet18", classes=2, weights=str(path))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("none.pt", None, "no such weights file"),
        ("bad.safetensors", b"not safetensors", "not a safetensors file"),
        ("empty.pt", b"", "not a state dict that can be read safely"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(name: str, data: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(WeightsError, match=f"{name}: {message}"):
        create("resnet18", classes=2, weights=str(path))


def test_a_file_of_something_else_holds_no_state_dict(tmp_path: Path) -> None:
    torch.save([1, 2, 3], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="holds no state dict"):
        create("resnet18", classes=2, weights=str(tmp_path / "list.pt"))
