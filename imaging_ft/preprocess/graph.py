"""The preprocessing of `InputSpec` as an ONNX graph: any image to the integer levels the network sees.

The operators are chosen for where they run: everything stays NHWC until the end, since a Resize between two
Transposes fails to load in onnxruntime, and stretching needs no shape arithmetic at all.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imaging_ft.preprocess.spec import InputSpec, window_terms

OPSET = 18
IR_VERSION = 10
INPUT = "image"
"""The bundle's input, by the same name."""
LEVELS = "levels"


def preprocessing_graph(spec: InputSpec) -> onnx.ModelProto:
    """Return a model from `image` [batch, h, w, channels] to `levels` [batch, channels, height, width] uint8.

    Windowing equals `preprocess.to_levels` exactly; the resize is Resize-18 with antialias on uint8, equal to
    Pillow's within two levels: each rounds after its rows and again after its columns (beyond one level lies one
    value in ten million of white noise).
    """
    graph = _Graph()
    levels = _window(graph, spec) if spec.dtype == "uint16" else INPUT
    if spec.resize == "stretch":
        resized = _resize(graph, levels, graph.constant("size", np.array([spec.height, spec.width], np.int64)))
    else:
        resized = _letterbox(graph, levels, spec)
    graph.add("Transpose", [resized], LEVELS, perm=[0, 3, 1, 2])
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


class _Graph:
    """Nodes and constants under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        name = f"constant_{name}"
        if all(name != known.name for known in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _window(graph: _Graph, spec: InputSpec) -> str:
    """uint16 to 256 levels: round(clip((x − low) · 255 / (high − low), 0, 255)) in float32."""
    low, scale = window_terms(spec)
    stored = graph.add("Cast", [INPUT], "stored", to=TensorProto.FLOAT)
    shifted = graph.add("Sub", [stored, graph.constant("low", low)], "shifted")
    scaled = graph.add("Mul", [shifted, graph.constant("scale", scale)], "scaled")
    bounds = [graph.constant("black", np.float32(0)), graph.constant("white", np.float32(255))]
    clipped = graph.add("Clip", [scaled, *bounds], "clipped")
    rounded = graph.add("Round", [clipped], "rounded")
    return graph.add("Cast", [rounded], "windowed", to=TensorProto.UINT8)


def _resize(graph: _Graph, levels: str, size: str) -> str:
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


def _letterbox(graph: _Graph, levels: str, spec: InputSpec) -> str:
    """`preprocess.letterbox` and the padding around it, in int64 arithmetic on the image's own shape."""

    def number(name: str, value: int) -> str:
        return graph.constant(name, np.array([value], np.int64))

    def scaled(name: str, size: str, target: str, by: str) -> str:
        """max(1, (size · target + by // 2) // by)"""
        half = graph.add("Div", [by, number("two", 2)], f"{name}_half")
        product = graph.add("Mul", [size, target], f"{name}_product")
        total = graph.add("Add", [product, half], f"{name}_sum")
        quotient = graph.add("Div", [total, by], f"{name}_quotient")
        return graph.add("Max", [quotient, number("one", 1)], name)

    def margins(name: str, target: str, inner: str) -> tuple[str, str]:
        room = graph.add("Sub", [target, inner], f"{name}_room")
        before = graph.add("Div", [room, number("two", 2)], f"{name}_before")
        return before, graph.add("Sub", [room, before], f"{name}_after")

    shape = graph.add("Shape", [levels], "shape")
    height = graph.add("Gather", [shape, number("one", 1)], "own_height")
    width = graph.add("Gather", [shape, number("two", 2)], "own_width")
    target_height, target_width = number("height", spec.height), number("width", spec.width)
    wide_product = graph.add("Mul", [width, target_height], "wide_product")
    tall_product = graph.add("Mul", [height, target_width], "tall_product")
    fits_width = graph.add("LessOrEqual", [tall_product, wide_product], "fits_width")
    by_width = scaled("height_by_width", height, target_width, width)
    by_height = scaled("width_by_height", width, target_height, height)
    inner_height = graph.add("Where", [fits_width, by_width, target_height], "inner_height")
    inner_width = graph.add("Where", [fits_width, target_width, by_height], "inner_width")
    size = graph.add("Concat", [inner_height, inner_width], "inner_size", axis=0)
    resized = _resize(graph, levels, size)
    top, bottom = margins("vertical", target_height, inner_height)
    left, right = margins("horizontal", target_width, inner_width)
    pads = graph.add("Concat", [top, left, bottom, right], "pads", axis=0)
    axes = graph.constant("pad_axes", np.array([1, 2], np.int64))
    return graph.add("Pad", [resized, pads, graph.constant("zero", np.uint8(0)), axes], "padded")
