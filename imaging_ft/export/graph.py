"""The graph of an exported file: preprocessing, network, scaling, softmax or sigmoid; no metadata."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any

import onnx
import torch
from onnx import compose, helper
from torch import Tensor, nn

from imaging_ft.bundle import EMBEDDING, LOGITS, PROBABILITIES
from imaging_ft.config import reason
from imaging_ft.errors import InputError
from imaging_ft.export.older import at_opset_10
from imaging_ft.export.target import Target
from imaging_ft.models.factory import Classifier
from imaging_ft.preprocess import LEVELS
from imaging_ft.preprocess.graph import IR_VERSION, OPSET, preprocessing_graph
from imaging_ft.training.run import ModelInfo
from imaging_ft.types import Task

_NETWORK = "network_"
"""Before the names of the network's tensors in the whole graph, where two halves could mean different things by one."""


@dataclass(frozen=True)
class Built:
    """A graph in its two halves, which meet at integer levels."""

    pre: onnx.ModelProto | None
    """Stored images to levels uint8 [batch, channels, height, width]; None where the host prepares its images."""
    network: onnx.ModelProto
    """Levels to the outputs; float32 levels where the host prepares them."""

    def whole(self, network: onnx.ModelProto | None = None) -> onnx.ModelProto:
        """Return the file's graph, with another network of the same inputs and outputs where one is given."""
        network = network or self.network
        return network if self.pre is None else merge(self.pre, network)


def build(model: Classifier, info: ModelInfo, target: Target, *, embedding: bool) -> Built:
    """Return a trained model's graph for a target, in float32.

    Raises InputError naming operator and module where torch or ONNX has no way to write one.
    """
    inside = target.preprocessing == "inside"
    network = _network(
        model, info, embedding=embedding, batch=target.batch, dtype=torch.uint8 if inside else torch.float
    )
    if target.opset != OPSET:
        network = at_opset_10(network, where=f"target {target.name}: {info.backbone}")
    pre = preprocessing_graph(info.input, resize=target.resize) if inside else None
    return Built(pre, network)


def merge(pre: onnx.ModelProto, network: onnx.ModelProto) -> onnx.ModelProto:
    """Return one graph from two halves: bitwise what the second says of what the first gives."""
    named = compose.add_prefix(network, _NETWORK, rename_outputs=False, rename_inputs=True)
    merged = compose.merge_models(pre, named, io_map=[(LEVELS, _NETWORK + LEVELS)], producer_name="imaging_ft")
    del merged.opset_import[:]  # merging leaves each half's own import, and a duplicate breaks quantisation
    merged.opset_import.append(helper.make_opsetid("", OPSET))
    del merged.graph.value_info[:]  # shapes and types in between, which lowering leaves wrong; any reader infers them
    merged.ir_version = IR_VERSION
    onnx.checker.check_model(merged, full_check=True)
    return merged


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

    def forward(self, levels: Tensor) -> tuple[Tensor, ...]:
        features = self.model.embed(levels)
        logits = self.model.head(features)
        scaled = logits * self.scale + self.bias if self.vector_scaling else logits / self.temperature
        probabilities = torch.sigmoid(scaled) if self.multilabel else torch.softmax(scaled, dim=1)
        return (logits, probabilities, features) if self.embedding else (logits, probabilities)


def _network(
    model: Classifier, info: ModelInfo, *, embedding: bool, batch: int | None, dtype: torch.dtype
) -> onnx.ModelProto:
    spec = info.input
    # A batch of one would be taken for a constant.
    example = torch.zeros(batch or 2, spec.channels, spec.height, spec.width, dtype=dtype)
    names = [LOGITS, PROBABILITIES, *([EMBEDDING] if embedding else [])]
    outputs = _Outputs(model.eval().cpu(), info, embedding=embedding).eval()
    shapes = ({0: torch.export.Dim("batch", min=1)},) if batch is None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        try:
            program = torch.export.export(outputs, (example,), dynamic_shapes=shapes)
        except Exception as error:
            raise _not_exportable(info, _module_of(error, model), reason(error)) from error
        try:
            written: Any = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=[LEVELS],
                output_names=names,
                verbose=False,
            )
        except Exception as error:
            operator = _operator_of(error)
            module = _user_of(operator, program) if operator else None
            raise _not_exportable(info, module, f"ONNX has no {operator}" if operator else reason(error)) from error
    proto = written.model_proto
    _call_batch(proto.graph)
    del proto.metadata_props[:]
    for node in proto.graph.node:  # the exporter notes source lines of this machine in every node
        del node.metadata_props[:]
        node.doc_string = ""
    return proto


def _call_batch(graph: onnx.GraphProto) -> None:
    """Give the free dimension its name: the exporter keeps none of it, and calls it `s` and a number."""
    free = {value.type.tensor_type.shape.dim[0].dim_param for value in graph.input} - {""}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in free:
                dim.dim_param = "batch"


def _not_exportable(info: ModelInfo, module: str | None, why: str) -> InputError:
    where = f" in its module {module}" if module else ""
    return InputError(
        f"{info.backbone}: can't be exported{where}: {why.rstrip('.')}; replace that operator in the network,"
        " or train another backbone (imaging-ft models list)"
    )


def _module_of(error: BaseException, model: nn.Module) -> str | None:
    """Return the name of the innermost module that a traceback passed through."""
    names = {id(module): name for name, module in model.named_modules()}
    found = None
    for frame, _ in walk_tb(error.__traceback__):
        found = names.get(id(frame.f_locals.get("self"))) or found
    return found


def _operator_of(error: BaseException) -> str | None:
    """Return the operator that the exporter found no way to write, from what it says itself."""
    for cause in _causes(error):
        found = re.search(r"OpOverload\(op='([\w.]+)'", str(cause))
        if found:
            return found.group(1)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _user_of(operator: str, program: Any) -> str | None:
    """Return the module in whose forward an operator stands, once what the exporter takes apart is taken apart."""
    for node in program.run_decompositions().graph.nodes:
        if operator in str(node.target):
            stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
            return stack[-1].removeprefix("model.") if stack else None
    return None
