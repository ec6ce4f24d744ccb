"""The messages of the Open Inference Protocol, and of gRPC's health checks, as classes.

They stand in a pool of their own. In protobuf's common pool a process could not hold them beside the client of Triton
or of KServe, which declares the same names; and code that protoc writes runs only with the protobuf of its day.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClassesForFiles

PROTOCOL = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
DESCRIPTORS = "protocol.binpb"
"""What protoc made of `oip.proto` and `health.proto`."""

Message = Any
"""An instance of one of the classes; protobuf makes them as it runs, so no type checker knows their fields."""


@cache
def messages() -> Mapping[str, Any]:
    """Return the classes by the messages' names without their packages, such as `ModelInferRequest`."""
    found = FileDescriptorSet.FromString(files("imaging_ft.adapters").joinpath(DESCRIPTORS).read_bytes())
    pool = DescriptorPool()
    for file in found.file:
        pool.AddSerializedFile(file.SerializeToString())
    classes = GetMessageClassesForFiles([file.name for file in found.file], pool)
    return {name.rpartition(".")[2]: made for name, made in classes.items()}
