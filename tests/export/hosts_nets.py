"""A small made-up net for OpenCV's host, and a bundle's metadata changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from imaging_ft.bundle import LOGITS, PREFIX, PROBABILITIES, Bundle, Golden, Label
from imaging_ft.preprocess import LEVELS, InputSpec, conform, letterbox, to_levels
from imaging_ft.types import Levels, Pixels, Task
from tests.inference.nets import BIAS, GRAPH, PARITY, WEIGHT

NAMES = ("bright", "dark", "unsure")
OLDER = 10
"""The newest opset that OpenCV 4.6 reads in full."""


def make_outside(path: Path, *, task: Task = Task.MULTICLASS, **changes: Any) -> None:
    """Write a net whose host prepares the images, with its sidecar; `changes` are of its input."""
    spec = InputSpec(**{"channels": 1, "height": 64, "width": 64, **changes})
    made = _network(spec, last="Sigmoid" if task is Task.MULTILABEL else "Softmax")
    session: Any = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    size = (spec.height, spec.width, spec.channels)
    sample = np.random.default_rng(3).integers(0, np.iinfo(spec.dtype).max, size, spec.dtype)
    bundle = Bundle(
        task=task,
        labels=tuple(Label(id=index, name=name) for index, name in enumerate(NAMES)),
        thresholds={"bright": 0.6, "dark": 0.5, "unsure": 0.5},
        temperature=1.0,
        input=spec,
        graph=GRAPH.model_copy(update={"target": "opencv-dnn", "preprocessing": "outside", "opset": OLDER}),
        metrics={},
        parity=PARITY,
        golden=Golden.of(sample[np.newaxis], run_outside(session, LOGITS, sample, spec).tolist(), tolerance=1e-2),
        provenance={"note": 'a "quoted" \\ text, ü', "nothing": None, "empty": []},
    )
    for key, text in bundle.to_metadata().items():
        made.metadata_props.add(key=key, value=text)
    path.write_bytes(made.SerializeToString())
    values = bundle.model_dump(mode="json", by_alias=True, exclude_none=True)
    path.with_name(f"{path.name}.json").write_text(json.dumps(values, ensure_ascii=False))


def _network(spec: InputSpec, *, last: str) -> onnx.ModelProto:
    """Two features, how bright and how dark a place is, squared so that it counts where they are."""
    gray = np.full((1, spec.channels, 1, 1), 1 / 255 / spec.channels, np.float32)
    turn = np.array([1, -1], np.float32).reshape(2, 1, 1, 1)
    constants = {"gray": gray, "turn": turn, "shift": np.array([0, 1], np.float32)}
    constants |= {"w": WEIGHT, "b": BIAS}
    nodes = [
        helper.make_node("Conv", [LEVELS, "gray"], ["g"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["g", "turn", "shift"], ["f"], kernel_shape=[1, 1]),
        helper.make_node("AveragePool", ["f"], ["a"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Mul", ["a", "a"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["p"]),
        helper.make_node("Flatten", ["p"], ["v"]),
        helper.make_node("Gemm", ["v", "w", "b"], [LOGITS], transB=1),
        helper.make_node(last, [LOGITS], [PROBABILITIES]),  # Softmax over axis 1, in this opset
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(LEVELS, TensorProto.FLOAT, [1, spec.channels, spec.height, spec.width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in (LOGITS, PROBABILITIES)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OLDER)], ir_version=5)


def run_outside(session: Any, output: str, image: Pixels, spec: InputSpec) -> Any:
    """Return an output [1, ...] of a net that takes levels, where NumPy and Pillow prepare the image."""
    levels = _levels(to_levels(conform(image, spec), spec), spec)
    return session.run([output], {LEVELS: levels.transpose(2, 0, 1)[np.newaxis].astype(np.float32)})[0]


def _levels(levels: Levels, spec: InputSpec) -> Levels:
    """Return levels at the network's size: across first, then down. Pillow itself may choose the order (13 does)."""
    height, width, channels = levels.shape
    inner = letterbox(height, width, spec) if spec.resize == "letterbox" else (spec.height, spec.width)
    picture = Image.fromarray(levels[:, :, 0] if channels == 1 else levels)
    for size in ((inner[1], height), (inner[1], inner[0])):
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    canvas = np.zeros((spec.height, spec.width, channels), np.uint8)
    top, left = (spec.height - inner[0]) // 2, (spec.width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = np.asarray(picture).reshape(*inner, channels)
    return canvas


def answer(bundle: Bundle, found: Any) -> tuple[str, float]:
    """Return label and probability of the probabilities [1, classes] of an image, as the predictions table has them."""
    said = bundle.decide(found)[0]
    names = [name for name, is_there in zip(bundle.names, said, strict=True) if is_there]
    return "|".join(names), float(found[0][said].max() if names else found[0].max())


def changed(path: Path, out: Path, **values: Any) -> Path:
    """Write a copy of a model, and of its sidecar where it has one, whose metadata say something else."""
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key.removeprefix(PREFIX) in values:
            entry.value = json.dumps(values[entry.key.removeprefix(PREFIX)])
    out.write_bytes(model.SerializeToString())
    sidecar = path.with_name(f"{path.name}.json")
    if sidecar.is_file():
        out.with_name(f"{out.name}.json").write_text(json.dumps(json.loads(sidecar.read_text()) | values))
    return out
