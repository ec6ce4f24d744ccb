"""The linear head of an exported network, found in its graph: what a class activation map is made of."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imaging_ft.bundle import LOGITS

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

Cells = npt.NDArray[np.float64]

_ONLY_RESHAPES = frozenset({"Dropout", "Flatten", "Gather", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that leave averages over space as they are, in another shape; torch writes `as_strided` as a Gather. That
they do is proved on the golden sample."""


@dataclass(frozen=True)
class Head:
    """A linear layer on averages over space: logit k is the mean over space of Σ_c weight[k, c]·F_c, plus bias[k].

    Where a layer normalisation stands between the two, its gain and centring are in the weights, and what is left of
    it, the division by the spread of the averages over the channels, is one number an image.
    """

    features: str
    """The tensor that is averaged: F."""
    channels_last: bool
    weight: Cells
    """[classes, channels]."""
    bias: Cells
    """[classes]."""
    epsilon: float | None
    """Of the layer normalisation, added to the variance; None without one."""

    def evidence(self, features: npt.NDArray[np.float32]) -> Cells:
        """Return each class's evidence [classes, rows, columns] in the features of one image, three-dimensional."""
        cells = features.astype(np.float64)
        cells = cells.transpose(2, 0, 1) if self.channels_last else cells
        spread = 1.0 if self.epsilon is None else float(np.sqrt(cells.mean(axis=(1, 2)).var() + self.epsilon))
        return np.tensordot(self.weight, cells, axes=1) / spread


def find_head(graph: "GraphProto") -> Head | None:
    """Return the linear head on averages over space that gives a graph's logits; None where the graph ends otherwise.

    The graph is followed back from the logits: Gemm, or MatMul and Add; whatever only reshapes; at most one layer
    normalisation over the channels; a mean over the two spatial axes.
    """
    makers = {name: node for node in graph.node for name in node.output}
    walk = _Walk(graph, makers)
    linear = walk.linear(walk.back(LOGITS, frozenset({"Identity"})))
    if linear is None:
        return None
    below, weight, bias = linear
    epsilon = None
    node = walk.back(below, _ONLY_RESHAPES)
    if node is not None and node.op_type == "LayerNormalization":
        gain, offset = (walk.constant(name) for name in (*node.input, "")[1:3])
        if gain is None or gain.shape != weight.shape[1:] or walk.setting(node, "axis", -1) not in {-1, 1, 3}:
            return None
        bias = bias if offset is None else bias + weight @ offset
        weight = weight * gain
        weight = weight - weight.mean(axis=1, keepdims=True)
        epsilon = float(walk.setting(node, "epsilon", 1e-5))
        node = walk.back(node.input[0], _ONLY_RESHAPES)
    axes = walk.averaged(node)
    if node is None or axes not in ({2, 3}, {1, 2}):
        return None
    return Head(node.input[0], axes == {1, 2}, weight, bias, epsilon)


def head_input(graph: "GraphProto") -> str | None:
    """Return the tensor that goes into the linear layer of a graph's logits: the features; None without one."""
    walk = _Walk(graph, {name: node for node in graph.node for name in node.output})
    linear = walk.linear(walk.back(LOGITS, frozenset({"Identity"})))
    return None if linear is None else linear[0]


class _Walk:
    """Follows a graph back, and reads its constants."""

    def __init__(self, graph: "GraphProto", makers: "dict[str, NodeProto]") -> None:
        self._makers = makers
        self._stored = {tensor.name: tensor for tensor in graph.initializer}

    def back(self, name: str, through: frozenset[str]) -> "NodeProto | None":
        """Return the node that makes a tensor, once operators in `through` are passed by their first input."""
        node = self._makers.get(name)
        while node is not None and node.op_type in through:
            node = self._makers.get(node.input[0])
        return node

    def constant(self, name: str) -> Cells | None:
        """Return a constant by name; None where the tensor is computed, or there is none."""
        from onnx import numpy_helper

        if name in self._stored:
            return numpy_helper.to_array(self._stored[name]).astype(np.float64)
        node = self._makers.get(name)
        if node is None or node.op_type != "Constant" or node.attribute[0].name != "value":
            return None
        return numpy_helper.to_array(node.attribute[0].t).astype(np.float64)

    def setting(self, node: "NodeProto", name: str, default: Any) -> Any:
        """Return a node's attribute, or its default."""
        from onnx import helper

        return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)

    def linear(self, node: "NodeProto | None") -> tuple[str, Cells, Cells] | None:
        """Return the input, the weight [classes, channels] and the bias [classes] of a linear layer."""
        if node is None:
            return None
        if node.op_type == "Gemm":
            plain = (self.setting(node, "alpha", 1.0), self.setting(node, "beta", 1.0), self.setting(node, "transA", 0))
            weight = self.constant(node.input[1])
            if weight is None or plain != (1.0, 1.0, 0):
                return None
            weight = weight if self.setting(node, "transB", 0) else weight.T
            bias = self.constant(node.input[2]) if len(node.input) > 2 else np.zeros(1)
            return None if bias is None else (node.input[0], weight, np.full(len(weight), bias.ravel(), np.float64))
        if node.op_type == "Add":
            for one, other in (node.input, reversed(node.input)):
                below, bias = self._makers.get(one), self.constant(other)
                found = self.linear(below) if below is not None and below.op_type == "MatMul" else None
                if found is not None and bias is not None:
                    return found[0], found[1], found[2] + bias.ravel()
        if node.op_type == "MatMul":
            weight = self.constant(node.input[1])
            return None if weight is None else (node.input[0], weight.T, np.zeros(int(weight.shape[1])))
        return None

    def averaged(self, node: "NodeProto | None") -> set[int]:
        """Return the axes of four that a node averages over, counted from 0; none where it doesn't."""
        if node is not None and node.op_type == "GlobalAveragePool":
            return {2, 3}
        if node is None or node.op_type != "ReduceMean":
            return set()
        given = self.constant(node.input[1]) if len(node.input) > 1 else self.setting(node, "axes", ())
        return {int(axis) % 4 for axis in (() if given is None else given)}
