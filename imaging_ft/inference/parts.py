"""The two halves of a bundle's graph, which meet at the integer levels that the network sees."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imaging_ft.errors import BundleError
from imaging_ft.preprocess import INPUT, LEVELS

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class Parts:
    """A graph in two: run one after the other, they give the same bytes as the whole.

    A server that holds images of many sizes runs `pre` image by image and `cls` on whole batches.
    """

    pre: "ModelProto"
    """`image` [batch, height, width, channels] to `levels` uint8 [batch, channels, height, width]."""
    cls: "ModelProto"
    """`levels` uint8 to the bundle's outputs."""


def split(model: "ModelProto", *, where: str) -> Parts:
    """Return the two halves of a bundle's graph, without its metadata.

    Raises BundleError naming the file where its graph has no such boundary: where the preprocessing is outside, or the
    file is of another maker.
    """
    from onnx.shape_inference import infer_shapes
    from onnx.utils import Extractor

    made = {name for node in model.graph.node for name in node.output}
    if LEVELS not in made or INPUT not in {value.name for value in model.graph.input}:
        raise BundleError(
            f"{where}: its graph can't be split at {LEVELS!r}: the preprocessing is not in it;"
            " export for a target that has it inside"
        )
    extractor = Extractor(infer_shapes(model))  # whose types in between it needs, and the file doesn't hold
    outputs = [value.name for value in model.graph.output]
    return Parts(extractor.extract_model([INPUT], [LEVELS]), extractor.extract_model([LEVELS], outputs))
