"""Where an image comes to lie in the network's input, as ONNX nodes."""

from dataclasses import dataclass

from imaging_ft.preprocess.nodes import Nodes
from imaging_ft.preprocess.spec import InputSpec


@dataclass(frozen=True)
class Box:
    """Names of tensors of one int64: an image's own size, its size in the network's input, and what is around it."""

    own_height: str
    own_width: str
    height: str
    width: str
    top: str
    bottom: str
    left: str
    right: str


def image_box(graph: Nodes, levels: str, spec: InputSpec) -> Box:
    """Return where levels [batch, h, w, channels] come to lie: everywhere, or inside their letterbox.

    `preprocess.letterbox` and the padding around it, in int64 arithmetic on the image's own shape.
    """
    shape = graph.add("Shape", [levels], "shape")
    height = graph.add("Gather", [shape, graph.number("one", 1)], "own_height")
    width = graph.add("Gather", [shape, graph.number("two", 2)], "own_width")
    target_height, target_width = graph.number("height", spec.height), graph.number("width", spec.width)
    if spec.resize == "stretch":
        none = graph.number("nothing", 0)
        return Box(height, width, target_height, target_width, none, none, none, none)
    wide_product = graph.add("Mul", [width, target_height], "wide_product")
    tall_product = graph.add("Mul", [height, target_width], "tall_product")
    fits_width = graph.add("LessOrEqual", [tall_product, wide_product], "fits_width")
    by_width = _scaled(graph, "height_by_width", height, target_width, width)
    by_height = _scaled(graph, "width_by_height", width, target_height, height)
    inner_height = graph.add("Where", [fits_width, by_width, target_height], "inner_height")
    inner_width = graph.add("Where", [fits_width, target_width, by_height], "inner_width")
    top, bottom = _margins(graph, "vertical", target_height, inner_height)
    left, right = _margins(graph, "horizontal", target_width, inner_width)
    return Box(height, width, inner_height, inner_width, top, bottom, left, right)


def _scaled(graph: Nodes, name: str, size: str, target: str, by: str) -> str:
    """max(1, (size · target + by // 2) // by)"""
    half = graph.add("Div", [by, graph.number("two", 2)], f"{name}_half")
    product = graph.add("Mul", [size, target], f"{name}_product")
    total = graph.add("Add", [product, half], f"{name}_sum")
    quotient = graph.add("Div", [total, by], f"{name}_quotient")
    return graph.add("Max", [quotient, graph.number("one", 1)], name)


def _margins(graph: Nodes, name: str, target: str, inner: str) -> tuple[str, str]:
    room = graph.add("Sub", [target, inner], f"{name}_room")
    before = graph.add("Div", [room, graph.number("two", 2)], f"{name}_before")
    return before, graph.add("Sub", [room, before], f"{name}_after")
