"""What torch or ONNX can't write is named; an older opset says the same as the new one."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from imaging_ft.errors import InputError
from imaging_ft.export.graph import build
from imaging_ft.export.older import at_opset_10
from imaging_ft.export.target import load_target
from imaging_ft.models.factory import Classifier, Source
from imaging_ft.preprocess import IMAGENET_MEAN, IMAGENET_STD
from tests.export.small import SPEC_SHAPE, built_for, info_of

TARGET = load_target("server-cpu")


class _Eigen(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.linalg.eigvals(x[:, 0]).real[:, None, None]


class _Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class _Odd(nn.Module):
    """A backbone with an odd part inside."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.neck = nn.Sequential(nn.ReLU(), part)

    def forward(self, x: Tensor) -> Tensor:
        return self.neck(self.stem(x)).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("part", "message"),
    [(_Eigen(), r"in its module backbone\.neck\.1: ONNX has no aten\.linalg"), (_Branch(), r"backbone\.neck\.1: ")],
)
def test_what_cannot_be_exported_is_named_with_its_module(part: nn.Module, message: str) -> None:
    model = Classifier(Source("timm/odd", _Odd(part), 4, IMAGENET_MEAN, IMAGENET_STD), 3)
    with pytest.raises(InputError, match=r"timm/odd: can't be exported .*" + message) as caught:
        build(model, info_of("timm/odd"), TARGET, embedding=False)
    assert "\n" not in str(caught.value)
    assert "train another backbone" in str(caught.value)


def run(model: onnx.ModelProto, levels: np.ndarray) -> list[np.ndarray]:
    session: Any = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits", "probabilities"], {"levels": levels})


def test_opset_10_says_what_opset_18_does() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (1, *SPEC_SHAPE), np.uint8)
    older = run(built_for("opencv-dnn").whole(), levels.astype(np.float32))
    newer = run(built_for("server-cpu").network, levels)
    for one, other in zip(older, newer, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def made(
    *nodes: onnx.NodeProto, constants: dict[str, np.ndarray], shape: tuple[int, ...] = (1, 2, 4, 4)
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("operator", "attributes", "constants", "shape"),
    [
        ("Clip", {}, {"low": np.float32(0), "high": np.float32(6)}, (1, 2, 4, 4)),
        ("Clip", {}, {"": np.float32(0), "high": np.float32(0.5)}, (1, 2, 4, 4)),
        ("ReduceMean", {"keepdims": 0}, {"axes": np.array([-1, -2])}, (1, 2)),
        ("ReduceSum", {}, {"axes": np.array([1])}, (1, 1, 4, 4)),
        ("Unsqueeze", {}, {"axes": np.array([-1])}, (1, 2, 4, 4, 1)),
        ("Pad", {}, {"pads": np.array([0, 0, 1, 1, 0, 0, 2, 2])}, (1, 2, 7, 7)),
        ("Reshape", {"allowzero": 1}, {"shape": np.array([1, -1])}, (1, 32)),
        ("Softmax", {"axis": 3}, {}, (1, 2, 4, 4)),
    ],
)
def test_each_rewritten_operator_gives_the_same_values(
    operator: str, attributes: dict[str, Any], constants: dict[str, np.ndarray], shape: tuple[int, ...]
) -> None:
    node = helper.make_node(operator, ["x", *constants], ["y"], **attributes)
    newer = made(node, constants={name: value for name, value in constants.items() if name}, shape=shape)
    older = at_opset_10(newer, where="m")
    values = np.random.default_rng(1).normal(0, 3, (1, 2, 4, 4)).astype(np.float32)
    found: list[Any] = [
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": values})[0]
        for model in (newer, older)
    ]
    assert older.opset_import[0].version == 10
    assert found[0].shape == found[1].shape
    assert found[0] == pytest.approx(found[1], abs=1e-6)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("HardSwish", ["x"], ["y"], name="swish"), r"HardSwish \(node swish\)"),
        (helper.make_node("Softmax", ["x"], ["y"], axis=1, name="soft"), r"Softmax over axis 1 of 4 \(node soft\)"),
        (helper.make_node("Clip", ["x", "x"], ["y"], name="clip"), r"Clip with a computed 'x'"),
    ],
)
def test_what_opset_10_cannot_say_is_named(node: onnx.NodeProto, message: str) -> None:
    with pytest.raises(InputError, match=message):
        at_opset_10(made(node, constants={}), where="timm/x")


def test_nothing_of_this_machine_stands_in_a_graph() -> None:
    data = built_for("server-cpu").whole().SerializeToString()
    assert str(Path(__file__).parents[2]).encode() not in data
    assert b"site-packages" not in data
