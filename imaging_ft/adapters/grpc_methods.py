"""What each method of the Open Inference Protocol answers over gRPC, over the same service as HTTP."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from imaging_ft import __version__
from imaging_ft.adapters import oip
from imaging_ft.adapters.grpc_messages import Message, messages
from imaging_ft.adapters.service import LOAD_OFF, Service
from imaging_ft.errors import (
    ExpiredError,
    ImagingFtError,
    InputError,
    QueueFullError,
    ServiceError,
    UnknownModelError,
)
from imaging_ft.inference.batching import Answer
from imaging_ft.inference.models import Served
from imaging_ft.types import Json

EXTENSIONS = ("model_repository", "model_configuration", "statistics", "classification")
_BACKEND, _PLATFORM = "onnxruntime", "onnxruntime_onnx"
_CONTENTS = {"UINT8": "uint_contents", "UINT16": "uint_contents", "FP32": "fp32_contents"}
"""Where a datatype's values stand that are sent one by one."""
_LARGE = 1 << 20
"""Bytes from which on a request is read by another thread, so that others aren't kept waiting."""
_PRIVATE = {"imaging_ft.provenance", "imaging_ft.seen"}


class RefusedError(Exception):
    """A call that isn't answered, with the status that says so."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Call:
    """What is known of a call beside its message."""

    id: str
    """Names it in the logs and in the audit log."""
    deadline: float | None
    """The client's, as a time of `time.monotonic`."""


Method = Callable[[Message, Call], Awaitable[Message]]


class Methods:
    """The methods of `inference.GRPCInferenceService` that take one message and give one."""

    def __init__(self, service: Service, *, allow_load: bool) -> None:
        self._service = service
        self._allow_load = allow_load
        self._made = messages()
        self.by_name: dict[str, Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self.infer,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    async def answer(self, name: str, data: bytes, call: Call) -> bytes:
        """Return a method's answer to a message; raises InputError where it is none, ImagingFtError, RefusedError."""
        request = await self.parsed(f"{name}Request", data)
        found = await self.by_name[name](request, call)
        return found.SerializeToString()

    async def infer(self, request: Message, call: Call) -> Message:
        """Return a ModelInferResponse; raises as `Service.infer`."""
        served = self._service.versioned(request.model_name, request.model_version)
        wanted = oip.input_of(served.runner)

        def read() -> tuple[list[Any], list[Json]]:
            values, binary = _as_json(request)
            images = oip.images_of(values, binary, wanted, self._service.limits.images)
            return images, oip.wanted_outputs(values, served.runner.outputs)

        images, outputs = await self._service.in_pool(read) if request.ByteSize() > _LARGE else read()
        served, answers = await self._service.infer(
            served.name, images, request_id=call.id, deadline=_deadline(request, call)
        )
        return self._response(request.id, served, answers, outputs)

    async def parsed(self, kind: str, data: bytes) -> Message:
        """Return a message of a kind; raises InputError where the bytes are none."""
        if len(data) > _LARGE:
            return await self._service.in_pool(lambda: self.message(kind, data))
        return self.message(kind, data)

    def message(self, kind: str, data: bytes) -> Message:
        """Return a message of a kind, however large; raises InputError where the bytes are none."""
        try:
            return self._made[kind].FromString(data)
        except DecodeError as error:
            raise InputError(f"the message is no {kind}; see oip.proto of imaging_ft") from error

    def _response(self, asked: str, served: Served, answers: Sequence[Answer], outputs: Sequence[Json]) -> Message:
        response = self._made["ModelInferResponse"](model_name=served.name, model_version=str(served.version), id=asked)
        for output in outputs:
            tensor = np.stack([answer.outputs[output["name"]] for answer in answers])
            best = output["parameters"].get("classification", 0) if "parameters" in output else 0
            if best > 0:
                tensor = oip.classes(tensor, served.runner.bundle.names, best)
            datatype = "BYTES" if best > 0 else oip.NAMES[tensor.dtype]
            response.outputs.add(name=output["name"], datatype=datatype, shape=tensor.shape)
            response.raw_output_contents.append(oip.to_bytes(tensor))
        return response

    async def _server_live(self, _request: Message, _call: Call) -> Message:
        return self._made["ServerLiveResponse"](live=True)

    async def _server_ready(self, _request: Message, _call: Call) -> Message:
        return self._made["ServerReadyResponse"](ready=not self._service.ending)

    async def _model_ready(self, request: Message, _call: Call) -> Message:
        try:
            self._service.versioned(request.name, request.version)
        except UnknownModelError:
            return self._made["ModelReadyResponse"](ready=False)
        return self._made["ModelReadyResponse"](ready=not self._service.ending)

    async def _server_metadata(self, _request: Message, _call: Call) -> Message:
        return self._made["ServerMetadataResponse"](name="imaging_ft", version=__version__, extensions=EXTENSIONS)

    async def _model_metadata(self, request: Message, _call: Call) -> Message:
        return self._made["ModelMetadataResponse"](
            **oip.metadata(self._service.versioned(request.name, request.version))
        )

    async def _model_config(self, request: Message, _call: Call) -> Message:
        served = self._service.versioned(request.name, request.version)
        found = oip.metadata(served)
        config = self._made["ModelConfig"](
            name=served.name,
            platform=_PLATFORM,
            backend=_BACKEND,
            max_batch_size=self._service.limits.images,
            input=[_configured(tensor) for tensor in found["inputs"]],
            output=[_configured(tensor) for tensor in found["outputs"]],
        )
        for key, text in served.runner.bundle.to_metadata().items():
            if key not in _PRIVATE:
                config.parameters[key].string_value = text
        return self._made["ModelConfigResponse"](config=config)

    async def _model_statistics(self, request: Message, _call: Call) -> Message:
        names = [request.name] if request.name else self._service.models.names()
        found = [self._statistics(self._service.versioned(name, request.version)) for name in names]
        return self._made["ModelStatisticsResponse"](model_stats=found)

    def _statistics(self, served: Served) -> Message:
        """Return what was counted since the service started, whichever version of the model answered."""
        metrics = self._service.metrics
        images, queued = _count_and_ns(metrics.queue, served.name)
        _, computed = _count_and_ns(metrics.compute, served.name)
        failed = round(_total(metrics.images, model=served.name, status="error"))
        return self._made["ModelStatistics"](
            name=served.name,
            version=str(served.version),
            inference_count=images,
            execution_count=round(_total(metrics.batches, model=served.name)),
            inference_stats={
                "success": {"count": images, "ns": queued + computed},
                "fail": {"count": failed},
                "queue": {"count": images, "ns": queued},
                "compute_infer": {"count": images, "ns": computed},
            },
        )

    async def _repository_index(self, request: Message, _call: Call) -> Message:
        found = [one for one in self._service.index() if one["state"] == "READY" or not request.ready]
        return self._made["RepositoryIndexResponse"](models=found)

    async def _load(self, request: Message, _call: Call) -> Message:
        self._check_load()
        if request.parameters:
            raise InputError("a model is loaded from its own file; leave out the configuration and files sent with it")
        await asyncio.to_thread(self._service.load, request.model_name)
        return self._made["RepositoryModelLoadResponse"]()

    async def _unload(self, request: Message, _call: Call) -> Message:
        self._check_load()
        self._service.models.unload(request.model_name)
        return self._made["RepositoryModelUnloadResponse"]()

    def _check_load(self) -> None:
        if not self._allow_load:
            raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, LOAD_OFF)


def status_of(error: ImagingFtError) -> tuple[grpc.StatusCode, tuple[tuple[str, str], ...]]:
    """Return the status of a failure, and what its trailing metadata say."""
    match error:
        case QueueFullError():
            milliseconds = max(1, round(error.retry_after * 1000))
            return grpc.StatusCode.RESOURCE_EXHAUSTED, (("grpc-retry-pushback-ms", str(milliseconds)),)
        case ExpiredError():
            return grpc.StatusCode.DEADLINE_EXCEEDED, ()
        case ServiceError():
            return grpc.StatusCode.UNAVAILABLE, ()
        case UnknownModelError():
            return grpc.StatusCode.NOT_FOUND, ()
        case _:
            return grpc.StatusCode.INVALID_ARGUMENT, ()


def _as_json(request: Message) -> tuple[Json, bytes]:
    """Return a request as HTTP's JSON and the bytes after it, which are checked in one place for both."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputError(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs; send one for each")
    if len(request.inputs) != 1:
        return {"inputs": []}, b""
    (given,) = request.inputs
    shared = [given, *request.outputs]
    if any(key.startswith("shared_memory") for one in shared for key in one.parameters):
        raise InputError("shared memory isn't read here; send the tensor itself")
    values: Json = {"name": given.name, "datatype": given.datatype, "shape": list(given.shape)}
    if not raw:
        field = _CONTENTS.get(given.datatype)
        values["data"] = list(getattr(given.contents, field)) if field else []
    elif given.HasField("contents"):
        raise InputError("the input is in raw_input_contents and in its contents; send one of them")
    else:
        values["parameters"] = {"binary_data_size": len(raw[0])}
    outputs = [{"name": one.name, "parameters": _parameters(one.parameters)} for one in request.outputs]
    return {"inputs": [values], "outputs": outputs}, raw[0] if raw else b""


def _parameters(given: Any) -> Json:
    return {key: getattr(value, value.WhichOneof("parameter_choice") or "bool_param") for key, value in given.items()}


def _deadline(request: Message, call: Call) -> float | None:
    """Return the earlier of the call's deadline and the request's own, `timeout` in microseconds."""
    asked = _parameters(request.parameters).get("timeout", 0)
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 0:
        raise InputError(f"timeout {asked!r}: write microseconds, as a whole number")
    both = [one for one in (call.deadline, time.monotonic() + asked / 1e6 if asked else None) if one is not None]
    return min(both, default=None)


def _configured(tensor: Json) -> Json:
    """Return a tensor as Triton's model configuration writes it: without the batch."""
    return {"name": tensor["name"], "data_type": f"TYPE_{tensor['datatype']}", "dims": tensor["shape"][1:]}


def _total(counter: Any, **labels: str) -> float:
    return sum(
        sample.value
        for family in counter.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels == labels
    )


def _count_and_ns(histogram: Any, model: str) -> tuple[int, int]:
    found = {
        sample.name.rpartition("_")[2]: sample.value
        for family in histogram.collect()
        for sample in family.samples
        if sample.labels == {"model": model}
    }
    return int(found.get("count", 0)), round(found.get("sum", 0.0) * 1e9)
