"""A network in opset 10, for runtimes that read no later one: OpenCV's DNN module of 4.x.

ONNX's own version converter has no way below opset 14. What changed since for the operators of a classifier is where
their settings stand (inputs now, attributes then) and which types they take.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from imaging_ft.config import reason
from imaging_ft.errors import InputError

OLDER = 10
_SAME = frozenset(
    [
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Concat",
        "Conv",
        "Div",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "HardSigmoid",
        "Identity",
        "LeakyRelu",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mul",
        "Neg",
        "Pow",
        "Relu",
        "Sigmoid",
        "Sqrt",
        "Sub",
        "Tanh",
        "Transpose",
    ]
)
"""Operators that differ in the types they take, or not at all."""


@dataclass(frozen=True)
class _Known:
    """What is known of a network's tensors by name."""

    constants: Mapping[str, np.ndarray]
    ranks: Mapping[str, int]

    def constant(self, node: onnx.NodeProto, name: str) -> np.ndarray:
        if name not in self.constants:
            raise ValueError(f"{node.op_type} with a computed {name!r} (node {node.name})")
        return self.constants[name]

    def rank(self, node: onnx.NodeProto) -> int:
        if node.input[0] not in self.ranks:
            raise ValueError(f"{node.op_type} of unknown shape (node {node.name})")
        return self.ranks[node.input[0]]


def at_opset_10(network: onnx.ModelProto, *, where: str) -> onnx.ModelProto:
    """Return a network of opset 18 in opset 10; raises InputError naming the operator that opset 10 can't say."""
    graph = network.graph
    known = _Known({one.name: numpy_helper.to_array(one) for one in graph.initializer}, _ranks(network))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        rewrite = _REWRITES.get(node.op_type)
        try:
            nodes.append(rewrite(node, known) if rewrite else _same(node))
        except ValueError as error:
            raise InputError(
                f"{where}: opset {OLDER} can't say {error}; train another backbone, or export for another target"
            ) from error
    used = {name for node in nodes for name in node.input}
    older = helper.make_model(
        helper.make_graph(
            nodes, graph.name, graph.input, graph.output, [one for one in graph.initializer if one.name in used]
        ),
        opset_imports=[helper.make_opsetid("", OLDER)],
        ir_version=5,
    )
    try:
        onnx.checker.check_model(older, full_check=True)
    except Exception as error:  # onnx's own kinds have no common base
        raise InputError(
            f"{where}: can't be written in opset {OLDER}: {reason(error)};"
            " train another backbone, or export for another target"
        ) from error
    return older


def _same(node: onnx.NodeProto) -> onnx.NodeProto:
    if node.op_type not in _SAME:
        raise ValueError(f"{node.op_type} (node {node.name})")
    return node


def _clip(node: onnx.NodeProto, known: _Known) -> onnx.NodeProto:
    low, high = ([*node.input, "", ""])[1:3]
    bounds: dict[str, Any] = {
        name: float(known.constant(node, tensor).item()) for name, tensor in (("min", low), ("max", high)) if tensor
    }
    return helper.make_node("Clip", [node.input[0]], list(node.output), name=node.name, **bounds)


def _axes_as_attribute(node: onnx.NodeProto, known: _Known) -> onnx.NodeProto:
    kept = _attributes(node)
    noop = kept.pop("noop_with_empty_axes", 0)
    if len(node.input) > 1 and node.input[1]:
        axes = known.constant(node, node.input[1]).astype(int).ravel().tolist()
        if any(axis < 0 for axis in axes):  # counted from the end since opset 11
            rank = known.rank(node) + (len(axes) if node.op_type == "Unsqueeze" else 0)
            axes = sorted(axis % rank for axis in axes)
        kept["axes"] = axes
    elif noop:
        raise ValueError(f"{node.op_type} over no axes (node {node.name})")
    return helper.make_node(node.op_type, [node.input[0]], list(node.output), name=node.name, **kept)


def _reshape(node: onnx.NodeProto, known: _Known) -> onnx.NodeProto:
    allows_zero = any(one.name == "allowzero" and one.i for one in node.attribute)
    if allows_zero and not known.constant(node, node.input[1]).all():
        raise ValueError(f"Reshape to a size of zero (node {node.name})")
    return helper.make_node("Reshape", list(node.input), list(node.output), name=node.name)


def _softmax(node: onnx.NodeProto, known: _Known) -> onnx.NodeProto:
    """Before opset 13 everything from the axis on was one row: the same only over the last axis."""
    rank = known.rank(node)
    axis = next((helper.get_attribute_value(one) for one in node.attribute if one.name == "axis"), -1) % rank
    if axis != rank - 1:
        raise ValueError(f"Softmax over axis {axis} of {rank} (node {node.name})")
    return helper.make_node("Softmax", list(node.input), list(node.output), name=node.name, axis=axis)


def _pad(node: onnx.NodeProto, known: _Known) -> onnx.NodeProto:
    if len(node.input) > 3 and node.input[3]:
        raise ValueError(f"Pad with axes (node {node.name})")
    kept = _attributes(node)
    kept["pads"] = known.constant(node, node.input[1]).astype(int).tolist()
    if len(node.input) > 2 and node.input[2]:
        kept["value"] = float(known.constant(node, node.input[2]).item())
    return helper.make_node("Pad", [node.input[0]], list(node.output), name=node.name, **kept)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


_REWRITES: dict[str, Callable[[onnx.NodeProto, _Known], onnx.NodeProto]] = {
    "Clip": _clip,
    "Pad": _pad,
    "ReduceMax": _axes_as_attribute,
    "ReduceMean": _axes_as_attribute,
    "ReduceSum": _axes_as_attribute,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Squeeze": _axes_as_attribute,
    "Unsqueeze": _axes_as_attribute,
}


def _ranks(network: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(network).graph
    values: Sequence[onnx.ValueInfoProto] = [*inferred.value_info, *inferred.output, *inferred.input]
    return {value.name: len(value.type.tensor_type.shape.dim) for value in values}
