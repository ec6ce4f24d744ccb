"""The resize as two matrix products, for runtimes whose Resize knows no antialias.

Pillow's bilinear resize is linear in the pixels but for the rounding after its rows and after its columns, so each
pass is a product with a matrix of triangle weights, which the graph makes from the image's own size.
"""

import numpy as np
from onnx import TensorProto

from imaging_ft.preprocess.box import image_box
from imaging_ft.preprocess.nodes import Nodes
from imaging_ft.preprocess.spec import InputSpec


def matmul_resize(graph: Nodes, levels: str, spec: InputSpec, *, output: str) -> str:
    """Add `output` [batch, channels, height, width] uint8: levels [batch, h, w, channels] at the network's size.

    Stretched or letterboxed as the spec says; within two levels of Pillow's, hardly ever beyond one.
    """
    box = image_box(graph, levels, spec)
    across = _weights(graph, "across", own=box.own_width, inner=box.width, before=box.left, target=spec.width)
    down = _weights(graph, "down", own=box.own_height, inner=box.height, before=box.top, target=spec.height)
    stored = graph.add("Cast", [levels], "levels_float", to=TensorProto.FLOAT)
    planes = graph.add("Transpose", [stored], "planes", perm=[0, 3, 1, 2])
    turned = graph.add("Transpose", [across], "across_turned", perm=[1, 0])
    rows = _rounded(graph, "rows", graph.add("MatMul", [planes, turned], "rows_exact"))
    both = _rounded(graph, "both", graph.add("MatMul", [down, rows], "both_exact"))
    return graph.add("Cast", [both], output, to=TensorProto.UINT8)


def _weights(graph: Nodes, name: str, *, own: str, inner: str, before: str, target: int) -> str:
    """Return by how much each of a side's own pixels counts for each of the network's: [target, own], float32.

    A triangle as wide as the shrinking, at least one pixel, around each pixel's middle; its weights sum to one. The
    rows of a letterbox's padding are zero.
    """

    def floating(tensor: str, called: str) -> str:
        return graph.add("Cast", [tensor], f"{name}_{called}", to=TensorProto.FLOAT)

    half, one, zero = (graph.constant(word, np.array([value], np.float32)) for word, value in _NUMBERS.items())
    scale = graph.add("Div", [floating(own, "own"), floating(inner, "inner")], f"{name}_scale")
    support = graph.add("Max", [scale, one], f"{name}_support")
    places = graph.constant(f"{name}_places", np.arange(target, dtype=np.float32)[:, np.newaxis])
    inside = graph.add("Sub", [places, floating(before, "before")], f"{name}_inside")
    middles = graph.add("Mul", [graph.add("Add", [inside, half], f"{name}_half"), scale], f"{name}_middles")
    length = graph.add("Squeeze", [own], f"{name}_length")
    counted = graph.add(
        "Range", [graph.constant("first", np.int64(0)), length, graph.constant("step", np.int64(1))], f"{name}_counted"
    )
    pixels = graph.add("Add", [floating(counted, "pixels"), half], f"{name}_pixel_middles")
    apart = graph.add("Abs", [graph.add("Sub", [pixels, middles], f"{name}_apart")], f"{name}_distance")
    slope = graph.add("Sub", [one, graph.add("Div", [apart, support], f"{name}_relative")], f"{name}_slope")
    triangle = graph.add("Max", [slope, zero], f"{name}_triangle")
    whole = graph.add("ReduceSum", [triangle, graph.number("one", 1)], f"{name}_whole", keepdims=1)
    shares = graph.add("Div", [triangle, whole], f"{name}_shares")
    last = graph.add("Less", [inside, f"{name}_inner"], f"{name}_before_end")
    there = graph.add("And", [graph.add("GreaterOrEqual", [inside, zero], f"{name}_begun"), last], f"{name}_there")
    return graph.add("Where", [there, shares, zero], f"{name}_weights")


_NUMBERS = {"one_half": 0.5, "one_whole": 1.0, "nought": 0.0}


def _rounded(graph: Nodes, name: str, exact: str) -> str:
    """Half rounds up, as Pillow's does."""
    half = graph.constant("one_half", np.array([0.5], np.float32))
    floor = graph.add("Floor", [graph.add("Add", [exact, half], f"{name}_shifted")], f"{name}_floor")
    bounds = [graph.constant("least", np.float32(0)), graph.constant("most", np.float32(255))]
    return graph.add("Clip", [floor, *bounds], f"{name}_rounded")
