"""A Triton model repository from a bundle: its two halves as models, and the ensemble that clients call.

```
<folder>/
  <name>_pre/  config.pbtxt  warmup/golden  <version>/model.onnx               image to levels, request by request
  <name>_cls/  config.pbtxt  warmup/golden  labels.txt  <version>/model.onnx   levels to outputs, in batches
  <name>/      config.pbtxt  labels.txt  <version>/bundle.json                 the one, then the other
```
What Triton takes and does was read from its sources: triton-inference-server's common (model_config.proto), core and
onnxruntime_backend, as of mid 2026.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnx import TensorProto, compose, helper

from imaging_ft.bundle import INPUT, LEVELS, LOGITS, PREFIX, PROBABILITIES, Bundle, Graph
from imaging_ft.config import reason
from imaging_ft.errors import BundleError, InputError
from imaging_ft.export.repository import CONFIG, Folder, gathering, stage, swap, versions
from imaging_ft.inference.parts import Parts, split
from imaging_ft.types import Pixels

QUEUE_DELAY = 1_000
"""Microseconds that a request waits for others to fill a batch with."""
QUEUE_TIMEOUT = 60_000_000
"""Microseconds after which a request that still waits is refused; a client may ask for fewer."""
QUEUE_BATCHES = 16
"""How many of the largest batches may wait; a server that has more to do says so at once."""
FOR_CLIENTS = ("schema", "task", "labels", "thresholds", "input", "golden", "intended_use")
"""The metadata in the ensemble's configuration, which anyone may read who can reach the server."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LABELS, _GOLDEN, _FILE = "labels.txt", "golden", "model.onnx"
_TENSORRT, _CUDA, _CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
_TYPES: dict[int, str] = {
    TensorProto.UINT8: "TYPE_UINT8",
    TensorProto.UINT16: "TYPE_UINT16",
    TensorProto.FLOAT: "TYPE_FP32",
}

Message = dict[str, Any]
"""A protobuf message by its fields' names; a list is a repeated field."""


class _Word(str):
    """A value that stands without quotation marks: an enum's."""

    __slots__ = ()


def write_triton(model: onnx.ModelProto, bundle: Bundle, folder: Path, *, name: str, version: int = 1) -> list[Path]:
    """Write a bundle as the models `<name>_pre`, `<name>_cls` and `<name>` of a Triton repository; return the files.

    Other models in the folder stay, and so do other versions of this one; the version that was written last is the one
    that is served. The halves of the one before it are served beside it where they can be, so that a server which loads
    the new one answers all the while. Everything is gathered beside the folder and renamed into it, or nothing. The
    ensemble leaves first and comes last: a kill in between leaves no ensemble, rather than one of two models, and
    the next write mends it. Raises InputError where the bundle is for a target that can't be served so, where a folder
    holds another model, and where the disk refuses; BundleError where the graph gives other than the golden logits.
    """
    _check(bundle, name, version)
    root = folder.resolve()
    parts = split(model, where=f"model {name}")
    samples = _declare(parts, bundle, name)
    if _TENSORRT in bundle.graph.providers:
        parts = Parts(parts.pre, _told_apart(parts.cls))
    try:
        with gathering(root) as part:
            models = _models(parts, samples, bundle, name, [*_before(parts, bundle, root, name, version), version])
            for each in models:
                stage(each, part, root, version)
            root.mkdir(parents=True, exist_ok=True)
            swap(part, root, [each.name for each in models])
    except OSError as error:
        raise InputError(
            f"{folder}: the repository can't be written: {reason(error)}; it and the folder above it must be writable,"
            " and on one disk"
        ) from error
    return [folder / each.name / path for each in models for path in (CONFIG, *each.files)]


def next_version(folder: Path, name: str) -> int:
    """Return the version after the last one of a model that a repository holds; 1 where it holds none."""
    return max(versions(folder / name), default=0) + 1


def pbtxt(message: Mapping[str, Any]) -> str:
    """Return a message in protobuf's text format."""
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Mapping[str, Any]) -> Iterator[str]:
    for field, value in message.items():
        values = value if isinstance(value, list) else [value]
        if all(isinstance(each, Mapping) for each in values):
            for each in values:
                yield from (f"{field} {{", *(f"  {line}" for line in _lines(each)), "}")
        elif isinstance(value, list):
            yield f"{field}: [{', '.join(map(_scalar, value))}]"
        else:
            yield f"{field}: {_scalar(value)}"


def _scalar(value: str | int) -> str:
    if isinstance(value, str) and not isinstance(value, _Word):
        escaped = re.sub(r'["\\]', r"\\\g<0>", value)
        return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\{ord(found[0]):03o}", escaped) + '"'
    return str(value).lower() if isinstance(value, bool) else str(value)


def _map(values: Mapping[str, Any]) -> list[Message]:
    """Return a protobuf map, which is written as a list of its entries."""
    return [{"key": key, "value": value} for key, value in values.items()]


def check_servable(graph: Graph, name: str) -> None:
    """Raise InputError where a file can't be served so, for its target or for its name."""
    if graph.preprocessing == "outside" or graph.batch is not None:
        takes = "prepared levels" if graph.preprocessing == "outside" else "one image at a time"
        raise InputError(
            f"a file for target {graph.target} takes {takes}, but Triton is to serve images of any size, in batches;"
            " export with --target server-cpu or --target server-gpu"
        )
    if _NAME.fullmatch(name) is None:
        raise InputError(f"{name!r} can't be a model's name in Triton; use letters, digits, '_', '-' and '.'")


def _check(bundle: Bundle, name: str, version: int) -> None:
    check_servable(bundle.graph, name)
    if version < 1:
        raise InputError(f"version {version}: Triton's versions are 1, 2, 3 …")
    broken = [label for label in bundle.names if "\n" in label]
    if broken:
        raise InputError(f"label {broken[0]!r} holds a line break, but {_LABELS} has one label a line; rename it")


def _before(parts: Parts, bundle: Bundle, root: Path, name: str, version: int) -> list[int]:
    """Return the version before this one, where it can be served beside it; else none.

    All versions of a model share its configuration and labels, so it has to have the same.
    """
    older = [each for each in versions(root / name) if each < version][-1:]
    labels = root / f"{name}_cls" / _LABELS
    if not older or not labels.is_file() or labels.read_bytes() != _listed(bundle):
        return []
    for half, part in (("pre", parts.pre), ("cls", parts.cls)):
        file = root / f"{name}_{half}" / str(older[0]) / _FILE
        if not file.is_file():
            return []
        try:
            there = onnx.load(file)
        except DecodeError as error:
            raise InputError(f"{file}: damaged; remove version {older[0]} of {name}, and write again") from error
        if _tensors(there) != _tensors(part):
            return []
    return older


def _tensors(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.output]


def _listed(bundle: Bundle) -> bytes:
    return "".join(f"{label}\n" for label in bundle.names).encode()


def _models(
    parts: Parts, samples: tuple[Pixels, Pixels], bundle: Bundle, name: str, numbers: Sequence[int]
) -> list[Folder]:
    """Return the three models, the ensemble last; of the versions to be served the last is the one that is written."""
    (image, levels), version = samples, numbers[-1]
    metadata = bundle.to_metadata()
    for key, text in metadata.items():
        parts.cls.metadata_props.add(key=key, value=text)
    sizes = sorted(set(bundle.graph.batches))
    served: Message = {"max_batch_size": sizes[-1], "version_policy": {"specific": {"versions": list(numbers)}}}
    source, prepared = _tensor(parts.pre.graph.input[0]), _tensor(parts.cls.graph.input[0])
    outputs = [_tensor(output) for output in parts.cls.graph.output]
    for output in outputs:
        if output["name"] == PROBABILITIES:
            output["label_filename"] = _LABELS
    labels = _listed(bundle)
    # No batching between requests: the images of one have one size, those of two need not, and levels all have one.
    # Two instances, so that a huge image doesn't hold up all others.
    pre: Message = {
        "name": f"{name}_pre",
        "backend": "onnxruntime",
        **served,
        "input": [source],
        "output": [prepared],
        "instance_group": [{"count": 2, "kind": _Word("KIND_CPU")}],
        "model_warmup": [_warmup(source, image, 1)],
    }
    # TensorRT builds anew for each size outside the range that it has met: the ends first, and it's two builds in all.
    ends_first = dict.fromkeys([sizes[-1], *sizes])
    cls: Message = {
        "name": f"{name}_cls",
        "backend": "onnxruntime",
        **served,
        "input": [prepared],
        "output": outputs,
        **_batching(sizes),
        "instance_group": [{"count": 1, "kind": _Word(_kind(bundle.graph.providers))}],
        **_acceleration(bundle),
        "model_warmup": [_warmup(prepared, levels, size) for size in ends_first],
    }
    # Each step names its version, so that halves of two versions never answer together.
    wiring = [("pre", [source], [prepared]), ("cls", [prepared], outputs)]
    steps = [
        {
            "model_name": f"{name}_{half}",
            "model_version": version,
            "input_map": _map({tensor["name"]: tensor["name"] for tensor in takes}),
            "output_map": _map({tensor["name"]: tensor["name"] for tensor in gives}),
        }
        for half, takes, gives in wiring
    ]
    ensemble: Message = {
        "name": name,
        "platform": "ensemble",
        **served,
        "version_policy": {"specific": {"versions": [version]}},
        "input": [source],
        "output": outputs,
        "ensemble_scheduling": {"step": steps},
        "parameters": _map({PREFIX + key: {"string_value": metadata[PREFIX + key]} for key in FOR_CLIENTS}),
    }
    whole = json.dumps(bundle.brief().model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False) + "\n"
    file, warmup, of = f"{version}/{_FILE}", f"warmup/{_GOLDEN}", f"of imaging_ft's model {name}"
    pre_files = {warmup: image.tobytes(), file: parts.pre.SerializeToString()}
    cls_files = {warmup: levels.tobytes(), _LABELS: labels, file: parts.cls.SerializeToString()}
    # An ensemble needs its version's folder, and object stores keep no empty one.
    ensemble_files = {_LABELS: labels, f"{version}/bundle.json": whole.encode()}
    return [
        Folder(f"{name}_pre", f"# The preprocessing {of}: image to levels.", pbtxt(pre), pre_files),
        Folder(f"{name}_cls", f"# The network {of}: levels to outputs.", pbtxt(cls), cls_files),
        Folder(name, f"# The whole {of}: the one to call.", pbtxt(ensemble), ensemble_files),
    ]


def _declare(parts: Parts, bundle: Bundle, name: str) -> tuple[Pixels, Pixels]:
    """Write an item's whole shape into the halves' tensors; return the golden sample's first image and its levels.

    A configured output must have the very shape that onnxruntime reads from the file, and how much of it onnxruntime
    infers by itself differs between its versions. Raises BundleError where the golden logits are others.
    """
    golden = bundle.golden
    levels = _run(parts.pre, {INPUT: golden.image()})[LEVELS]
    found = {LEVELS: levels, **_run(parts.cls, {LEVELS: levels})}
    apart = float(np.abs(found[LOGITS] - np.asarray(golden.logits)).max())
    if not apart <= golden.tolerance:
        raise BundleError(
            f"model {name}: a logit of the golden sample is off by {apart:.3g} (at most {golden.tolerance:g} is"
            " allowed); the graph is damaged, or the bundle is another file's; export again"
        )
    for value in (parts.pre.graph.output[0], parts.cls.graph.input[0], *parts.cls.graph.output):
        kind, shape = value.type.tensor_type.elem_type, found[value.name].shape[1:]
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, ["batch", *shape]))
    image = golden.image()[0]
    return image.astype(image.dtype.newbyteorder("<")), levels[0]


def _run(part: onnx.ModelProto, feed: dict[str, Pixels]) -> dict[str, Any]:
    session: Any = ort.InferenceSession(part.SerializeToString(), providers=[_CPU])
    names = [value.name for value in part.graph.output]
    return dict(zip(names, session.run(names, feed), strict=True))


def _tensor(value: onnx.ValueInfoProto) -> Message:
    """Return a tensor as the configuration has it: without the batch; -1 is any extent."""
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
    return {"name": value.name, "data_type": _Word(_TYPES[kind.elem_type]), "dims": dims[1:]}


def _warmup(tensor: Message, sample: Pixels, size: int) -> Message:
    data = {"data_type": tensor["data_type"], "dims": list(sample.shape), "input_data_file": _GOLDEN}
    return {"name": f"batch of {size}", "batch_size": size, "inputs": _map({tensor["name"]: data})}


def _batching(sizes: Sequence[int]) -> Message:
    """Return how requests are put together; nothing where the file is for single images.

    A preferred size runs as soon as it's reached; with 1 among them no request would ever wait for another.
    """
    larger = [size for size in sizes if size > 1]
    if not larger:
        return {}
    policy: Message = {
        "timeout_action": _Word("REJECT"),
        "default_timeout_microseconds": QUEUE_TIMEOUT,
        "allow_timeout_override": True,
        "max_queue_size": QUEUE_BATCHES * larger[-1],
    }
    batching = {"preferred_batch_size": larger, "max_queue_delay_microseconds": QUEUE_DELAY}
    return {"dynamic_batching": {**batching, "default_queue_policy": policy}}


def _kind(providers: Sequence[str]) -> str:
    """Return where the network runs: of a target that names no CPU, never silently there."""
    if not {_TENSORRT, _CUDA}.intersection(providers):
        return "KIND_CPU"
    return "KIND_AUTO" if _CPU in providers else "KIND_GPU"


def _told_apart(network: onnx.ModelProto) -> onnx.ModelProto:
    """Return a network whose inner tensors' names say what it's made of.

    onnxruntime finds an engine that TensorRT built before by the file's name and the tensors' names, and not by the
    weights: another version of the same network would be answered for with the first one's.
    """
    content = hashlib.sha256(network.SerializeToString(deterministic=True)).hexdigest()[:16]
    kept = dict.fromkeys(("rename_nodes", "rename_inputs", "rename_outputs", "rename_value_infos"), False)
    return compose.add_prefix(network, f"{content}_", **kept)


def _acceleration(bundle: Bundle) -> Message:
    if _TENSORRT not in bundle.graph.providers:
        return {}
    parameters = {
        "precision_mode": bundle.graph.precision.upper(),
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": "/tmp/imaging_ft_tensorrt",  # noqa: S108 - in the server's container
    }
    tensorrt: Message = {"name": "tensorrt", "parameters": _map(parameters)}
    return {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [tensorrt]}}}
