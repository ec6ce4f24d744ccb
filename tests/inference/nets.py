"""Made-up nets with known truth, as bundles: two features say how bright and how dark each place of an image is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, compose, helper, numpy_helper

from imaging_ft.bundle import INPUT, LOGITS, PROBABILITIES, Bundle, Golden, Graph, Label, Parity
from imaging_ft.inference.activation import Activation
from imaging_ft.preprocess import LEVELS, InputSpec
from imaging_ft.preprocess.graph import OPSET, preprocessing_graph
from imaging_ft.types import Pixels, Precision, Task

SIZE = 64
CELL = 4
BRIGHT, DARK, UNSURE = range(3)
WEIGHT = np.array([[4.0, -1.0], [-1.0, 4.0], [-0.5, -0.25]], np.float32)
BIAS = np.array([0.25, -0.5, 0.125], np.float32)
GAIN, OFFSET = np.array([1.5, 0.5], np.float32), np.array([0.1, -0.2], np.float32)
PARITY = Parity(
    images=1,
    top1_agreement=1,
    max_probability_difference=0,
    max_logit_difference=0,
    max_level_difference=0,
    tolerance=1e-3,
    sizes=(),
    batches=(),
    provider="CPUExecutionProvider",
)
GRAPH = Graph(
    target="server-cpu",
    precision=Precision.FP32,
    opset=OPSET,
    preprocessing="inside",
    resize="antialias",
    batch=None,
    batches=(1, 2, 4),
    providers=("CPUExecutionProvider",),
)
Node = tuple[str, list[str], str, dict[str, Any]]
POOL: Node = ("GlobalAveragePool", ["f"], "p", {})
FLAT: Node = ("Flatten", ["p"], "v", {})
GEMM: Node = ("Gemm", ["v", "w", "b"], LOGITS, {"transB": 1})
MATMUL: list[Node] = [("MatMul", ["v", "w_t"], "m", {}), ("Add", ["b", "m"], LOGITS, {})]
NHWC: Node = ("Transpose", ["f"], "g", {"perm": [0, 2, 3, 1]})
LINEAR: dict[str, list[Node]] = {
    "pool, flatten, gemm": [POOL, FLAT, GEMM],
    "pool, flatten, matmul, add": [POOL, FLAT, *MATMUL],
    "mean over rows and columns": [("ReduceMean", ["f", "axes_hw"], "v", {"keepdims": 0}), GEMM],
    "mean, counted from the end": [
        ("ReduceMean", ["f", "axes_end"], "p", {}),
        ("Reshape", ["p", "flat"], "v", {}),
        GEMM,
    ],
    "channels last": [NHWC, ("ReduceMean", ["g", "axes_nhwc"], "v", {"keepdims": 0}), GEMM],
    "transposed after the pool": [
        POOL,
        ("Transpose", ["p"], "t", {"perm": [0, 2, 3, 1]}),
        ("Squeeze", ["t", "axes_nhwc"], "s", {}),
        ("Identity", ["s"], "d", {}),
        ("Dropout", ["d"], "v", {}),
        GEMM,
    ],
    "a norm before the head": [
        POOL,
        FLAT,
        ("LayerNormalization", ["v", "gain", "offset"], "n", {"epsilon": 1e-3}),
        ("Gemm", ["n", "w", "b"], LOGITS, {"transB": 1}),
    ],
}
OTHER: dict[str, list[Node]] = {
    "a nonlinearity after the pool": [POOL, FLAT, ("Relu", ["v"], "r", {}), ("Gemm", ["r", "w", "b"], *GEMM[2:])],
    "largest instead of mean": [("GlobalMaxPool", ["f"], "p", {}), FLAT, GEMM],
    "channels in another order": [
        POOL,
        FLAT,
        ("Gather", ["v", "swapped"], "o", {"axis": 1}),
        ("Gemm", ["o", "w", "b"], *GEMM[2:]),
    ],
    "space averaged away before": [
        ("ReduceMean", ["f", "axes_hw"], "q", {}),
        ("GlobalAveragePool", ["q"], "p", {}),
        FLAT,
        GEMM,
    ],
}


@dataclass(frozen=True)
class Made:
    """A file and what it says of itself."""

    path: Path
    bundle: Bundle

    @property
    def activation(self) -> Activation:
        return Activation.open(self.path, self.bundle, threads=1)

    def logits(self, image: Pixels) -> np.ndarray:
        session: Any = ort.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        return session.run([LOGITS], {INPUT: image[np.newaxis]})[0][0]


def make(
    tail: list[Node], path: Path, *, task: Task = Task.MULTICLASS, says: list[Node] | None = None, **changes: Any
) -> Made:
    """Write a bundle whose logits are made by `tail` from the features "f" [batch, 2, 16, 16].

    `says` makes its probabilities, where it isn't softmax or sigmoid; `changes` are of its input.
    """
    usual: Node = ("Sigmoid", [LOGITS], PROBABILITIES, {})
    if task is not Task.MULTILABEL:
        usual = ("Softmax", [LOGITS], PROBABILITIES, {"axis": 1})
    spec = InputSpec(**{"channels": 1, "height": SIZE, "width": SIZE, **changes})
    nodes: list[Node] = [
        ("Cast", ["network_levels"], "c", {"to": TensorProto.FLOAT}),
        ("ReduceMean", ["c", "axis_c"], "gray", {}),
        ("Div", ["gray", "full"], "bright", {}),
        ("Sub", ["one", "bright"], "dark", {}),
        ("Concat", ["bright", "dark"], "both", {"axis": 1}),
        ("AveragePool", ["both"], "f", {"kernel_shape": [CELL, CELL], "strides": [CELL, CELL]}),
        *tail,
        *(says or [usual]),
    ]
    constants: dict[str, np.ndarray] = {
        "full": np.array([255], np.float32),
        "one": np.array([1], np.float32),
        "three": np.array([3], np.float32),
        "w": WEIGHT,
        "w_t": WEIGHT.T.copy(),
        "b": BIAS,
        "gain": GAIN,
        "offset": OFFSET,
        "axis_c": np.array([1]),
        "axes_hw": np.array([2, 3]),
        "axes_end": np.array([-1, -2]),
        "axes_nhwc": np.array([1, 2]),
        "flat": np.array([-1, 2]),
        "swapped": np.array([1, 0]),
    }
    used = {name for _, inputs, _, _ in nodes for name in inputs}
    network = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **more) for kind, inputs, output, more in nodes],
        "network",
        [helper.make_tensor_value_info("network_levels", TensorProto.UINT8, ["batch", spec.channels, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in (LOGITS, PROBABILITIES)],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    opset = [helper.make_opsetid("", OPSET)]
    merged = compose.merge_models(
        preprocessing_graph(spec),
        helper.make_model(network, opset_imports=opset, ir_version=10),
        io_map=[(LEVELS, "network_levels")],
    )
    del merged.opset_import[:]
    merged.opset_import.extend(opset)
    image = np.random.default_rng(3).integers(0, np.iinfo(spec.dtype).max, (1, 24, 24, spec.channels), spec.dtype)
    session: Any = ort.InferenceSession(merged.SerializeToString(), providers=["CPUExecutionProvider"])
    labels = ("bright", "dark", "unsure")
    bundle = Bundle(
        task=task,
        labels=tuple(Label(id=index, name=name) for index, name in enumerate(labels)),
        thresholds=dict.fromkeys(labels, 0.5),
        temperature=1.0,
        input=spec,
        graph=GRAPH,
        metrics={},
        parity=PARITY,
        golden=Golden.of(image, session.run([LOGITS], {INPUT: image})[0].tolist(), tolerance=1e-2),
        provenance={},
    )
    for key, text in bundle.to_metadata().items():
        merged.metadata_props.add(key=key, value=text)
    path.write_bytes(merged.SerializeToString())
    return Made(path, bundle)


def scene(height: int, width: int, box: tuple[int, int, int, int], *, full: int = 255) -> Pixels:
    """Return a dark image with a bright box (top, left, height, width)."""
    image = np.full((height, width, 1), full // 10, np.uint8 if full == 255 else np.uint16)
    top, left, tall, wide = box
    image[top : top + tall, left : left + wide] = full
    return image


def noise(shape: tuple[int, ...], seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
