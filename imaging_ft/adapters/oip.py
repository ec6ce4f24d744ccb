"""The Open Inference Protocol v2 over HTTP: JSON, and tensors in binary after it, as Triton's clients send them."""

import json
import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from imaging_ft.bundle import INPUT, LEVELS
from imaging_ft.errors import InputError
from imaging_ft.inference.batching import Answer
from imaging_ft.inference.models import Served
from imaging_ft.inference.runner import Runner
from imaging_ft.types import Json

TYPES: dict[str, type[np.generic]] = {
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
"""Datatypes by name, and NumPy's for them."""
NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}
HEADER_LENGTH = "inference-header-content-length"
"""The header that says how much of a body is JSON."""

Tensor = npt.NDArray[Any]
_LARGEST = 1 << 48
"""Side of a tensor: beyond it, what a message would say of it isn't worth its digits."""


def input_of(runner: Runner) -> Json:
    """Return a model's one input as the protocol describes it."""
    spec = runner.bundle.input
    if runner.bundle.graph.preprocessing == "inside":
        return {"name": INPUT, "datatype": spec.dtype.upper(), "shape": [-1, -1, -1, spec.channels]}
    return {"name": LEVELS, "datatype": "FP32", "shape": [-1, spec.channels, spec.height, spec.width]}


def metadata(served: Served) -> Json:
    """Return a model's metadata: its input and its outputs."""
    runner = served.runner
    outputs = [
        {"name": name, "datatype": "FP32", "shape": [-1, *shape]} for name, shape in runner.output_shapes.items()
    ]
    return {
        "name": served.name,
        "versions": [str(served.version)],
        "platform": "onnxruntime_onnx",
        "inputs": [input_of(runner)],
        "outputs": outputs,
    }


def parse(body: bytes, header_length: str | None) -> tuple[Json, bytes]:
    """Return a request's JSON and the bytes after it; raises InputError where it is none."""
    if header_length is None:
        length = len(body)
    elif header_length.isdecimal() and len(header_length) < 20 and int(header_length) <= len(body):
        length = int(header_length)
    else:
        raise InputError(f"{HEADER_LENGTH}: {header_length!r} is no length within the body of {len(body)} bytes")
    try:
        values = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise InputError("the body is no JSON; see the Open Inference Protocol, POST /v2/models/NAME/infer") from error
    if not isinstance(values, dict):
        raise InputError("the body's JSON is no object")
    return values, body[length:]


def images_of(values: Json, binary: bytes, wanted: Json, most: int) -> list[Tensor]:
    """Return the images in a request, one by one; raises InputError where the tensor is another than the model's."""
    inputs = values.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise InputError(f"inputs: give the one tensor {wanted['name']!r}")
    given: Json = inputs[0]
    shape = check_shape(given.get("name"), given.get("datatype"), given.get("shape"), wanted, most)
    kind = np.dtype(TYPES[wanted["datatype"]])
    size = _parameters(given).get("binary_data_size")
    if size is not None:
        if size != len(binary) or "data" in given:
            raise InputError(f"binary_data_size {size!r}: {len(binary)} bytes follow the JSON, and no data stand in it")
        return split_batch(from_bytes(binary, shape, kind))
    if binary:
        raise InputError(f"{len(binary)} bytes follow the JSON, but no binary_data_size asks for them")
    return split_batch(from_list(given.get("data"), shape, kind))


def check_shape(name: object, datatype: object, shape: object, wanted: Json, most: int) -> tuple[int, ...]:
    """Return a tensor's shape; raises InputError where name, type or shape are other than the model's."""
    if name != wanted["name"] or datatype != wanted["datatype"]:
        raise InputError(
            f"the input is {wanted['name']!r} of {wanted['datatype']}, but {name!r} of {datatype} was sent"
        )
    if not isinstance(shape, Sequence) or not all(
        isinstance(side, int) and not isinstance(side, bool) for side in shape
    ):
        raise InputError(f"shape {shape!r}: write whole numbers")
    right = len(shape) == len(wanted["shape"]) and all(
        0 < side < _LARGEST and there in {-1, side} for side, there in zip(shape, wanted["shape"], strict=True)
    )
    if not right:
        raise InputError(f"shape {list(shape)}, but {wanted['shape']} is wanted (-1: any)")
    if shape[0] > most:
        raise InputError(f"{shape[0]} images at once, but at most {most} are taken; send fewer")
    return tuple(shape)


def from_bytes(data: bytes, shape: tuple[int, ...], kind: "np.dtype[Any]") -> Tensor:
    """Return a tensor of little-endian bytes in C order; raises InputError where they are not so many."""
    count = math.prod(shape)
    if len(data) != count * kind.itemsize:
        raise InputError(f"{len(data)} bytes for a tensor {list(shape)} of {kind}, which has {count * kind.itemsize}")
    return np.frombuffer(data, kind.newbyteorder("<")).reshape(shape).astype(kind)


def split_batch(tensor: Tensor) -> list[Tensor]:
    """Return a batch's images."""
    return [np.ascontiguousarray(one) for one in tensor]


def from_list(data: object, shape: tuple[int, ...], kind: "np.dtype[Any]") -> Tensor:
    """Return a tensor of numbers in a list, nested or flat; raises InputError where they don't fit."""
    values = _flat(data, len(shape))
    if values is None or len(values) != math.prod(shape):
        count = "no" if values is None else len(values)
        raise InputError(
            f"data: {count} values for a tensor {list(shape)}, or not all of them numbers, in one list or nested as it"
        )
    try:
        found = np.array(values, np.float64)
    except OverflowError as error:
        raise InputError("data: a number is too large") from error
    if kind.kind in "iu":
        bounds = np.iinfo(kind)
        if not ((found >= bounds.min) & (found <= bounds.max) & (found == np.floor(found))).all():
            raise InputError(f"data: whole numbers from {bounds.min} to {bounds.max} are wanted for {kind}")
    elif not np.isfinite(found).all():
        raise InputError("data: values that are no numbers")
    return found.astype(kind).reshape(shape)


def _flat(data: object, depth: int) -> list[Any] | None:
    """Return the numbers of a list, or of lists of equal length in it, at most so deep; None where it is no such.

    Every value is looked at before NumPy sees it: of a long text among numbers it would make an array of texts of that
    length.
    """
    if not isinstance(data, list):
        return None
    found: list[Any] = data
    while depth > 1 and found and set(map(type, found)) == {list}:
        if len(set(map(len, found))) > 1:
            return None
        found = list(chain.from_iterable(found))
        depth -= 1
    return found if set(map(type, found)) <= {int, float} else None


def wanted_outputs(values: Json, there: Sequence[str]) -> list[Json]:
    """Return the outputs that a request asks for, each once, with its parameters; all, where it names none."""
    asked = values.get("outputs")
    if not asked:
        return [{"name": name} for name in there]
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise InputError('outputs: a list of objects with a "name" is wanted')
    for one in asked:
        check_output(one.get("name"), there)
        best = _parameters(one).get("classification", 0)
        if isinstance(best, bool) or not isinstance(best, int) or best < 0:
            raise InputError(f"classification {best!r}: write how many classes are wanted, as a whole number")
    if len({one["name"] for one in asked}) < len(asked):
        raise InputError("outputs: one is asked for twice; name each once")
    return asked


def check_output(name: object, there: Sequence[str]) -> None:
    """Raise InputError where a model has no output of that name."""
    if name not in there:
        raise InputError(f"no output {name!r}; there are: {', '.join(there)}")


def response(
    values: Json, served: Served, answers: Sequence[Answer], outputs: Sequence[Json]
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and how much of it is JSON; None where all is."""
    binary_by_default = bool(_parameters(values).get("binary_data_output", False))
    described: list[Json] = []
    tails: list[bytes] = []
    for asked in outputs:
        parameters = _parameters(asked)
        tensor = np.stack([answer.outputs[asked["name"]] for answer in answers])
        one: Json = {"name": asked["name"], "datatype": NAMES[tensor.dtype], "shape": list(tensor.shape)}
        best = parameters.get("classification", 0)
        if best > 0:
            tensor = classes(tensor, served.runner.bundle.names, best)
            one |= {"datatype": "BYTES", "shape": list(tensor.shape)}
        if parameters.get("binary_data", binary_by_default):
            tail = to_bytes(tensor)
            one["parameters"] = {"binary_data_size": len(tail)}
            tails.append(tail)
        else:
            one["data"] = [value.decode() for value in tensor.ravel()] if best > 0 else tensor.ravel().tolist()
        described.append(one)
    head: Json = {"model_name": served.name, "model_version": str(served.version), "outputs": described}
    if values.get("id") is not None:
        head["id"] = str(values["id"])
    text = json.dumps(head).encode()
    return text + b"".join(tails), len(text) if tails else None


def to_bytes(tensor: Tensor) -> bytes:
    """Return a tensor's bytes, little-endian and in C order; texts each after its length in four bytes."""
    if tensor.dtype == object:
        return b"".join(struct.pack("<I", len(value)) + value for value in tensor.ravel())
    return np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).tobytes()


def classes(tensor: Tensor, names: Sequence[str], best: int) -> Tensor:
    """Return the largest values of each row as Triton writes them: `value:index:label`."""
    rows = tensor.reshape(len(tensor), -1)
    order = np.argsort(-rows, axis=1, kind="stable")[:, :best]
    labels = list(names) if rows.shape[1] == len(names) else [""] * rows.shape[1]
    found = [
        [f"{row[at]:f}:{at}:{labels[at]}".encode() for at in places] for row, places in zip(rows, order, strict=True)
    ]
    return np.array(found, dtype=object)


def _parameters(values: Json) -> Json:
    found = values.get("parameters")
    return found if isinstance(found, dict) else {}
