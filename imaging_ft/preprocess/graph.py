"""The preprocessing of `InputSpec` as an ONNX graph: any image to the integer levels the network sees.

The operators are chosen for where they run: everything stays NHWC until the end, since a Resize between two
Transposes fails to load in onnxruntime, and stretching needs no shape arithmetic at all.
"""

from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from imaging_ft.preprocess.box import image_box
from imaging_ft.preprocess.matmul import matmul_resize
from imaging_ft.preprocess.nodes import Nodes
from imaging_ft.preprocess.spec import INPUT, LEVELS, InputSpec, window_terms

OPSET = 18
IR_VERSION = 10


def preprocessing_graph(spec: InputSpec, *, resize: Literal["antialias", "matmul"] = "antialias") -> onnx.ModelProto:
    """Return a model from `image` [batch, h, w, channels] to `levels` [batch, channels, height, width] uint8.

    Windowing equals `preprocess.to_levels` exactly; the resize is Resize-18 with antialias on uint8, equal to
    Pillow's within two levels: each rounds after its rows and again after its columns (beyond one level lies one
    value in ten million of white noise). `matmul` writes it as two matrix products, for runtimes without antialias.
    """
    graph = Nodes()
    levels = _window(graph, spec) if spec.dtype == "uint16" else INPUT
    if resize == "matmul":
        matmul_resize(graph, levels, spec, output=LEVELS)
        return _model(graph, spec)
    if spec.resize == "stretch":
        resized = _resize(graph, levels, graph.constant("size", np.array([spec.height, spec.width], np.int64)))
    else:
        resized = _letterbox(graph, levels, spec)
    graph.add("Transpose", [resized], LEVELS, perm=[0, 3, 1, 2])
    return _model(graph, spec)


def _model(graph: Nodes, spec: InputSpec) -> onnx.ModelProto:
    kind = TensorProto.UINT16 if spec.dtype == "uint16" else TensorProto.UINT8
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "preprocessing",
            [helper.make_tensor_value_info(INPUT, kind, ["batch", "image_height", "image_width", spec.channels])],
            [
                helper.make_tensor_value_info(
                    LEVELS, TensorProto.UINT8, ["batch", spec.channels, spec.height, spec.width]
                )
            ],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def _window(graph: Nodes, spec: InputSpec) -> str:
    """uint16 to 256 levels: round(clip((x − low) · 255 / (high − low), 0, 255)) in float32."""
    low, scale = window_terms(spec)
    stored = graph.add("Cast", [INPUT], "stored", to=TensorProto.FLOAT)
    shifted = graph.add("Sub", [stored, graph.constant("low", low)], "shifted")
    scaled = graph.add("Mul", [shifted, graph.constant("scale", scale)], "scaled")
    bounds = [graph.constant("black", np.float32(0)), graph.constant("white", np.float32(255))]
    clipped = graph.add("Clip", [scaled, *bounds], "clipped")
    rounded = graph.add("Round", [clipped], "rounded")
    return graph.add("Cast", [rounded], "windowed", to=TensorProto.UINT8)


def _resize(graph: Nodes, levels: str, size: str) -> str:
    return graph.add(
        "Resize",
        [levels, "", "", size],
        "resized",
        mode="linear",
        antialias=1,
        exclude_outside=1,
        coordinate_transformation_mode="half_pixel",
        axes=[1, 2],
    )


def _letterbox(graph: Nodes, levels: str, spec: InputSpec) -> str:
    box = image_box(graph, levels, spec)
    size = graph.add("Concat", [box.height, box.width], "inner_size", axis=0)
    resized = _resize(graph, levels, size)
    pads = graph.add("Concat", [box.top, box.left, box.bottom, box.right], "pads", axis=0)
    axes = graph.constant("pad_axes", np.array([1, 2], np.int64))
    return graph.add("Pad", [resized, pads, graph.constant("zero", np.uint8(0)), axes], "padded")
