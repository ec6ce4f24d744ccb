"""The class activation map as an output of the file, so that a host can show why without torch."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from imaging_ft.bundle import LOGITS, PROBABILITIES, SALIENCY
from imaging_ft.inference.head import Head, find_head
from imaging_ft.preprocess import LEVELS

PREFIX = "saliency_"
"""Before the names of the nodes that make it; they are never lowered to another precision."""
_AGREES = 1e-3
"""How far, relative to the largest logit, a map's mean plus bias may be from its logit."""


def with_saliency(network: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return a network of opset 18 that also gives `saliency` [batch, rows, columns], float32.

    It is the class activation map (Zhou et al. 2016, doi:10.1109/CVPR.2016.319) of the most probable class. None where
    there is no such map: where the head is not linear on averages over space.
    """
    head = find_head(network.graph)
    if head is None:
        return None
    made = onnx.ModelProto()
    made.CopyFrom(network)
    nodes, constants = _nodes(head)
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(constants)
    made.graph.output.append(
        helper.make_tensor_value_info(SALIENCY, TensorProto.FLOAT, ["batch", "saliency_rows", "saliency_columns"])
    )
    return made if _holds(made, head) else None


def _nodes(head: Head) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Each class's evidence by a convolution of one pixel; of these the most probable class's."""
    features = head.features
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], name=PREFIX + output, **attributes))
        return output

    constants = [numpy_helper.from_array(head.weight.astype(np.float32)[:, :, None, None], f"{PREFIX}weight")]
    if head.channels_last:
        features = add("Transpose", [features], f"{PREFIX}features", perm=[0, 3, 1, 2])
    evidence = add("Conv", [features, f"{PREFIX}weight"], f"{PREFIX}evidence")
    if head.epsilon is not None:
        places = numpy_helper.from_array(np.array([2, 3]), f"{PREFIX}places")
        channels = numpy_helper.from_array(np.array([1]), f"{PREFIX}channels")
        epsilon = numpy_helper.from_array(np.array(head.epsilon, np.float32), f"{PREFIX}epsilon")
        constants += [places, channels, epsilon]
        means = add("ReduceMean", [features, places.name], f"{PREFIX}means", keepdims=1)
        centred = add(
            "Sub", [means, add("ReduceMean", [means, channels.name], f"{PREFIX}mean", keepdims=1)], f"{PREFIX}centred"
        )
        squared = add("Mul", [centred, centred], f"{PREFIX}squared")
        variance = add("ReduceMean", [squared, channels.name], f"{PREFIX}variance", keepdims=1)
        spread = add("Sqrt", [add("Add", [variance, epsilon.name], f"{PREFIX}shifted")], f"{PREFIX}spread")
        evidence = add("Div", [evidence, spread], f"{PREFIX}normed")
    best = add("ArgMax", [PROBABILITIES], f"{PREFIX}class", axis=1, keepdims=1)
    add("GatherND", [evidence, best], SALIENCY, batch_dims=1)
    return nodes, constants


def _holds(network: onnx.ModelProto, head: Head) -> bool:
    """Return whether the map's mean plus bias is the logit, on noise, from more than one place."""
    session: Any = ort.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    _, *shape = session.get_inputs()[0].shape
    levels = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
    logits, said, found = session.run([LOGITS, PROBABILITIES, SALIENCY], {LEVELS: levels})
    if found[0].size == 1:
        return False
    best = said.argmax(axis=1)
    expected = np.take_along_axis(logits, best[:, None], axis=1)[:, 0]
    apart = np.abs(found.mean(axis=(1, 2)) + head.bias[best] - expected).max()
    return bool(apart <= _AGREES * max(1.0, float(np.abs(logits).max())))
