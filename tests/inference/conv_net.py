"""A convolutional net that is worth a GPU, made here: random features, and a head that tells images apart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, compose, helper, numpy_helper

from imaging_ft.bundle import INPUT, LOGITS, PROBABILITIES, Golden, Label
from imaging_ft.preprocess import LEVELS
from imaging_ft.preprocess.graph import IR_VERSION, OPSET, preprocessing_graph
from imaging_ft.types import Pixels
from tests.inference.nets import LINEAR, Made, make

SIZE = 224
CLASSES = 5
BATCHES = (1, 2, 4, 8, 16, 32)
LAYERS = [(3, 32, 2), (32, 64, 2), *[(64, 64, 1)] * 3, (64, 128, 2), *[(128, 128, 1)] * 4]
"""Of each convolution: channels in, channels out, stride."""


def pictures(count: int, *, seed: int = 0) -> list[Pixels]:
    """Return colour images of several sizes: coarse to fine patches, dark to bright, with noise."""
    rng = np.random.default_rng(seed)
    found: list[Pixels] = []
    for index in range(count):
        patch = int(rng.integers(1, 60))
        coarse = rng.normal(rng.uniform(60, 190), rng.uniform(5, 60), (340 // patch + 1, 340 // patch + 1, 3))
        image = np.kron(coarse, np.ones((patch, patch, 1)))[: 200 + 10 * (index % 9), : 320 - 20 * (index % 7)]
        found.append(np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8))
    return found


def make_conv_net(path: Path) -> Made:
    """Write a bundle whose logits differ between pictures by several units."""
    base = make(LINEAR["pool, flatten, gemm"], path, channels=3)
    spec = base.bundle.input.model_copy(update={"height": SIZE, "width": SIZE})
    rng = np.random.default_rng(7)
    kernels = [
        rng.normal(0, np.sqrt(2 / (9 * before)), (after, before, 3, 3)).astype(np.float32)
        for before, after, _ in LAYERS
    ]
    wide = LAYERS[-1][1]
    seen = _run(_whole(spec, kernels, np.eye(wide, dtype=np.float32), np.zeros(wide, np.float32)), pictures(40, seed=1))
    mean, spread = seen.mean(axis=0), seen.std(axis=0) + 1e-6
    head = (2 * rng.normal(0, 1 / np.sqrt(wide), (CLASSES, wide)) / spread).astype(np.float32)
    model = _whole(spec, kernels, head, (-head @ mean).astype(np.float32))
    labels = tuple(f"class {index}" for index in range(CLASSES))
    golden = pictures(1, seed=2)[0][np.newaxis, :24, :24]
    bundle = base.bundle.model_copy(
        update={
            "labels": tuple(Label(id=index, name=name) for index, name in enumerate(labels)),
            "thresholds": dict.fromkeys(labels, 0.5),
            "input": spec,
            "graph": base.bundle.graph.model_copy(update={"batches": BATCHES}),
            "golden": Golden.of(golden, _run(model, list(golden)).tolist(), tolerance=1e-2),
        }
    )
    for key, text in bundle.to_metadata().items():
        model.metadata_props.add(key=key, value=text)
    path.write_bytes(model.SerializeToString())
    return replace(base, bundle=bundle)


def _run(model: ModelProto, images: list[Pixels]) -> np.ndarray:
    session: Any = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([LOGITS], {INPUT: image[np.newaxis]})[0] for image in images])


def _whole(spec: Any, kernels: list[np.ndarray], head: np.ndarray, bias: np.ndarray) -> ModelProto:
    nodes = [
        helper.make_node("Cast", ["given"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["cast", "middle"], ["centred"]),
        helper.make_node("Div", ["centred", "full"], ["x0"]),
    ]
    for index, (_, _, stride) in enumerate(LAYERS):
        given = [f"x{index}", f"k{index}"]
        nodes.append(helper.make_node("Conv", given, [f"c{index}"], pads=[1, 1, 1, 1], strides=[stride, stride]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"x{index + 1}"]))
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{len(LAYERS)}"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "head", "bias"], [LOGITS], transB=1),
        helper.make_node("Softmax", [LOGITS], [PROBABILITIES], axis=1),
    ]
    constants = {f"k{index}": kernel for index, kernel in enumerate(kernels)} | {"head": head, "bias": bias}
    constants |= {"middle": np.array([127.5], np.float32), "full": np.array([64], np.float32)}
    network = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("given", TensorProto.UINT8, ["batch", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", len(head)])
            for name in (LOGITS, PROBABILITIES)
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = compose.merge_models(
        preprocessing_graph(spec),
        helper.make_model(network, opset_imports=opset, ir_version=IR_VERSION),
        io_map=[(LEVELS, "given")],
    )
    del model.opset_import[:]
    model.opset_import.extend(opset)
    model.ir_version = IR_VERSION
    return model
