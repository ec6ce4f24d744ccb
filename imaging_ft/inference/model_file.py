"""A model file as it lies on disk: its bytes, read once, and what stands beside them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imaging_ft.bundle import Bundle
from imaging_ft.config import reason
from imaging_ft.errors import BundleError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


class Checksum(StrEnum):
    """What `<file>.sha256` says of a file."""

    AGREES = "agrees"
    DIFFERS = "differs"
    UNREADABLE = "unreadable"
    MISSING = "missing"


@dataclass(frozen=True)
class ModelFile:
    """The bytes of a model file. Whoever checks, parses and runs these can't be given others in between."""

    path: Path
    data: bytes
    sha256: str

    @classmethod
    def read(cls, path: Path) -> "ModelFile":
        """Return a file's bytes; raises BundleError where it is missing, empty or unreadable."""
        if not path.is_file():
            raise BundleError(f"{path}: no such model file")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: can't be read: {reason(error)}") from error
        if not data:
            raise BundleError(f"{path}: the file is empty (0 bytes)")
        return cls(path, data, hashlib.sha256(data).hexdigest())

    def beside(self, ending: str) -> Path:
        """Return the path of what stands beside the file: its name and an ending such as `.sha256`."""
        return self.path.with_name(self.path.name + ending)

    def checksum(self) -> Checksum:
        """Return whether `<file>.sha256` agrees; the name in it may be an earlier one of the file."""
        try:
            words = self.beside(".sha256").read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return Checksum.MISSING
        except (OSError, UnicodeDecodeError):
            return Checksum.UNREADABLE
        if not words or len(words[0]) != len(self.sha256):
            return Checksum.UNREADABLE
        return Checksum.AGREES if words[0].lower() == self.sha256 else Checksum.DIFFERS

    def parse(self) -> "ModelProto":
        """Return the ONNX model; raises BundleError where the bytes are none."""
        import onnx

        try:
            return onnx.load_model_from_string(self.data)
        except Exception as error:  # protobuf's own kind isn't public
            raise BundleError(f"{self.path}: can't be read as an ONNX model: {reason(error)}") from error

    def bundle(self, model: "ModelProto") -> Bundle:
        """Return what the parsed model says of itself; raises BundleError where it is no bundle."""
        metadata = {item.key: item.value for item in model.metadata_props}
        return Bundle.from_metadata(metadata, where=str(self.path))


def check_self_contained(model: "ModelProto", *, where: str) -> None:
    """Raise BundleError where a model's weights lie in other files: no checksum and no signature is over those."""
    from onnx.external_data_helper import uses_external_data

    for tensor in _tensors(model):
        if uses_external_data(tensor):
            raise BundleError(
                f"{where}: its weights {tensor.name!r} lie in another file, which nothing vouches for; write it as one"
                " file, as imaging-ft export does"
            )


def _tensors(message: Any) -> Iterator["TensorProto"]:
    """Yield every tensor of a model, wherever it stands: initialisers, attributes, inner graphs, functions."""
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(inner)
