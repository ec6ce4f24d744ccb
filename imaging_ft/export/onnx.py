"""A run folder becomes one self-describing ONNX file, or nothing: the parity gate stands in between."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import compose, helper
from torch import Tensor, nn

from imaging_ft.bundle import LOGITS, PROBABILITIES, Bundle, Golden, Label, Parity, file_sha256
from imaging_ft.errors import InputError
from imaging_ft.export.parity import check_parity, reference_logits
from imaging_ft.export.validation import validation_images
from imaging_ft.models.factory import Classifier
from imaging_ft.preprocess.graph import IR_VERSION, LEVELS, OPSET, preprocessing_graph
from imaging_ft.training.run import ModelInfo, RunFolder, replacing, write_text
from imaging_ft.types import Pixels, Task, Track, silent

GOLDEN_SIZE = 24
GOLDEN_TOLERANCE = 1e-2
EMBEDDING = "embedding"


def export_run(
    run_path: Path, out: Path, *, data: str | None = None, embedding: bool = False, track: Track = silent
) -> Bundle:
    """Write a run's model as one ONNX file with `<out>.sha256` beside it, and return what it says of itself.

    The file is written only if it agrees with the trained model on every validation image (`check_parity`).
    `data` names the data set where it has moved since the training. Raises ParityError, RunError, DataError.
    """
    if out.suffix != ".onnx":
        raise InputError(f"{out}: the file's name should end in .onnx")
    run = RunFolder.open(run_path)
    model, info = run.read_model()
    images = validation_images(run, info, data=data, track=track)
    proto = build_model(model, info, embedding=embedding)
    parity = check_parity(proto.SerializeToString(), model, info, images, track=track)
    bundle = describe(model, info, parity, images[0])
    for key, text in bundle.to_metadata().items():
        proto.metadata_props.add(key=key, value=text)
    with replacing(out) as temporary:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(proto.SerializeToString())
    write_text(out.with_name(f"{out.name}.sha256"), f"{file_sha256(out)}  {out.name}\n")
    return bundle


def build_model(model: Classifier, info: ModelInfo, *, embedding: bool = False) -> onnx.ModelProto:
    """Return the whole graph: preprocessing, network, scaling, softmax or sigmoid; no metadata yet.

    The two halves meet at integer levels, so that a server can run them apart and batch mixed sizes.
    """
    network = _network_graph(model, info, embedding=embedding)
    merged = compose.merge_models(
        preprocessing_graph(info.input), network, io_map=[(LEVELS, "network_levels")], producer_name="imaging_ft"
    )
    del merged.opset_import[:]  # merging leaves each half's own import, and a duplicate breaks quantisation
    merged.opset_import.append(helper.make_opsetid("", OPSET))
    merged.ir_version = IR_VERSION
    onnx.checker.check_model(merged, full_check=True)
    return merged


def describe(model: Classifier, info: ModelInfo, parity: Parity, image: Pixels) -> Bundle:
    """Return the bundle's description, with a golden sample cut from the middle of an image."""
    height, width = image.shape[:2]
    top, left = max(0, (height - GOLDEN_SIZE) // 2), max(0, (width - GOLDEN_SIZE) // 2)
    sample = np.ascontiguousarray(image[top : top + GOLDEN_SIZE, left : left + GOLDEN_SIZE])
    logits = reference_logits(model, info.input, [sample])
    return Bundle(
        task=info.task,
        labels=tuple(Label(id=index, name=name) for index, name in enumerate(info.labels)),
        thresholds=info.thresholds,
        temperature=info.temperature,
        vector_scaling=info.vector_scaling,
        input=info.input,
        metrics={"validation": info.metrics},
        parity=parity,
        golden=Golden.of(sample[np.newaxis], logits.tolist(), tolerance=GOLDEN_TOLERANCE),
        provenance=info.provenance,
        intended_use=info.intended_use,
    )


class _Outputs(nn.Module):
    """The network with every output that the bundle promises; `bundle.probabilities` in torch's terms."""

    scale: Tensor
    bias: Tensor

    def __init__(self, model: Classifier, info: ModelInfo, *, embedding: bool) -> None:
        super().__init__()
        self.model = model
        self.temperature = info.temperature
        self.vector_scaling = info.vector_scaling is not None
        self.multilabel = info.task is Task.MULTILABEL
        self.embedding = embedding
        if info.vector_scaling is not None:
            self.register_buffer("scale", torch.tensor(info.vector_scaling.scale))
            self.register_buffer("bias", torch.tensor(info.vector_scaling.bias))

    def forward(self, network_levels: Tensor) -> tuple[Tensor, ...]:
        features = self.model.embed(network_levels)
        logits = self.model.head(features)
        scaled = logits * self.scale + self.bias if self.vector_scaling else logits / self.temperature
        probabilities = torch.sigmoid(scaled) if self.multilabel else torch.softmax(scaled, dim=1)
        return (logits, probabilities, features) if self.embedding else (logits, probabilities)


def _network_graph(model: Classifier, info: ModelInfo, *, embedding: bool) -> onnx.ModelProto:
    spec = info.input
    # A batch of one would be taken for a constant.
    example = torch.zeros(2, spec.channels, spec.height, spec.width, dtype=torch.uint8)
    names = [LOGITS, PROBABILITIES, *([EMBEDDING] if embedding else [])]
    outputs = _Outputs(model.eval().cpu(), info, embedding=embedding).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            outputs,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=["network_levels"],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
    if program is None:
        raise InputError(f"{info.backbone}: torch gave no ONNX program")
    proto = program.model_proto
    del proto.metadata_props[:]
    for node in proto.graph.node:  # the exporter notes source lines of this machine in every node
        del node.metadata_props[:]
        node.doc_string = ""
    return proto
