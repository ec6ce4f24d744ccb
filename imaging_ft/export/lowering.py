"""A network in lower precision: which of its layers may be lowered, and how that is written."""

import logging
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from imaging_ft.bundle import LOGITS
from imaging_ft.export.saliency import PREFIX
from imaging_ft.preprocess import LEVELS
from imaging_ft.types import Levels, Precision

_BATCH = 16
_KINDS = ("Conv", "Gemm", "MatMul")
_BETWEEN = ("Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Mul", "Relu", "Reshape")
"""Operators that stay in integers between two lowered layers."""

Lower = Callable[[Collection[str]], onnx.ModelProto]
"""Takes the names of the nodes to lower, and returns the network with these lowered and the others in float32."""


@dataclass(frozen=True)
class Layer:
    """A layer with weights that may be lowered."""

    node: str
    """Its node in the graph."""
    module: str
    """Its module in the trained network."""


def layers(network: onnx.ModelProto) -> list[Layer]:
    """Return the layers that may be lowered, in the order of the graph.

    The head is not among them: it costs next to nothing, and 8 bits would leave the logits 256 values.
    """
    weights = {tensor.name for tensor in network.graph.initializer}
    return [
        Layer(node.name, node.input[1].removeprefix("model.").removesuffix(".weight"))
        for node in network.graph.node
        if node.op_type in _KINDS
        and node.input[1] in weights
        and not node.name.startswith(PREFIX)
        and node.name not in _after(network, LOGITS)
        and LOGITS not in node.output
    ]


@contextmanager
def lowering(network: onnx.ModelProto, precision: Precision, calibration: Levels) -> Iterator[Lower]:
    """Give what lowers a network of opset 18 to fp16 or int8.

    `calibration` are levels [n, channels, height, width], from which the ranges of int8 are taken: they should hold
    what the model will meet, the dark as well as the bright.
    """
    if precision is Precision.FP16:
        yield lambda chosen: _to_fp16(network, chosen)
        return
    biased = with_biases(network)
    with TemporaryDirectory() as folder:
        yield lambda chosen: _to_int8(biased, chosen, calibration, Path(folder))


def with_biases(network: onnx.ModelProto) -> onnx.ModelProto:
    """Return a network whose convolutions all have a bias, if only of zeros: what shifts can then be corrected."""
    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        if node.op_type == "Conv" and len(node.input) == 2 and node.input[1] in weights:
            name = f"{node.name}_bias"
            zeros = np.zeros(weights[node.input[1]].dims[0], np.float32)
            copy.graph.initializer.append(numpy_helper.from_array(zeros, name))
            node.input.append(name)
    return copy


def _to_fp16(network: onnx.ModelProto, chosen: Collection[str]) -> onnx.ModelProto:
    import onnx_ir
    from onnx_ir.passes.common import TopologicalSortPass
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = _with_own_constants(network)
    left = {layer.node for layer in layers(network)} - set(chosen)
    first = _before_layers(network)
    kept = left | first | _after(network, LOGITS) | {node.name for node in network.graph.node if LOGITS in node.output}
    kept |= {node.name for node in network.graph.node if node.name.startswith(PREFIX)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tiny weights become zero is what the gate measures
        lowered = convert_float_to_float16(copy, keep_io_types=True, node_block_list=sorted(kept))
    # It appends its casts at the end, where a graph's nodes have to stand in the order in which they run.
    sorted_ = TopologicalSortPass()(onnx_ir.from_proto(lowered)).model
    return onnx_ir.to_proto(sorted_)


def _to_int8(network: onnx.ModelProto, chosen: Collection[str], calibration: Levels, folder: Path) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    out = folder / "int8.onnx"
    every = {layer.node for layer in layers(network)}
    outside = _before_layers(network) | _after(network, LOGITS)
    between = [
        node.name
        for node in network.graph.node
        if node.op_type in _BETWEEN and node.name not in outside and not node.name.startswith(PREFIX)
    ]
    # A layer quantised alone is measured alone: nothing between layers is then in integers.
    nodes = sorted(chosen) + (between if len(chosen) * 2 > len(every) else [])
    with _quiet():
        quantize_static(
            copy,
            out,
            _Reader(calibration),  # pyright: ignore[reportArgumentType] - it has the one method that is called
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*_KINDS, *_BETWEEN],
            nodes_to_quantize=nodes,
            per_channel=True,
            activation_type=QuantType.QUInt8,  # with QInt8 x86 kernels took 1.7 times as long
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=folder / "ranges.json",
        )
    lowered = onnx.load(out)
    del lowered.metadata_props[:]
    del lowered.opset_import[:]
    lowered.opset_import.extend(network.opset_import)
    return lowered


class _Reader:
    """Gives calibration images to onnxruntime, a batch at a time."""

    def __init__(self, calibration: Levels) -> None:
        self._calibration = calibration
        self._next = 0

    def get_next(self) -> dict[str, Any] | None:
        batch = self._calibration[self._next : self._next + _BATCH]
        self._next += _BATCH
        return {LEVELS: np.ascontiguousarray(batch)} if len(batch) else None


def _with_own_constants(network: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose nodes share no constant: the converter casts a shared one twice under one name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    stored = {tensor.name: tensor for tensor in copy.graph.initializer}
    used = set[str]()
    for node in copy.graph.node:
        for place, name in enumerate(node.input):
            if name in used:
                own = copy.graph.initializer.add()
                own.CopyFrom(stored[name])
                own.name = node.input[place] = f"{name}_of_{node.name}_{place}"
            elif name in stored:
                used.add(name)
    return copy


def _after(network: onnx.ModelProto, tensor: str) -> set[str]:
    """Return the names of the nodes that a tensor goes into, directly or not."""
    reached, found = {tensor}, set[str]()
    for node in network.graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            found.add(node.name)
    return found


def _before_layers(network: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes before the first layer: levels to normalised values."""
    found = set[str]()
    for node in network.graph.node:
        if node.op_type in _KINDS:
            break
        found.add(node.name)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's tool from warning on the root logger that it wasn't preprocessed by its own script."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
