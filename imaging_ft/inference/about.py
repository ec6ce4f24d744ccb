"""What a bundle says of itself and what its file shows, without running it: the facts behind `imaging-ft inspect`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imaging_ft.bundle import PREFIX, Bundle
from imaging_ft.inference.model_file import Checksum, ModelFile
from imaging_ft.inference.signature import SUFFIX
from imaging_ft.types import Json

if TYPE_CHECKING:
    from onnx import ValueInfoProto


@dataclass(frozen=True)
class Tensor:
    """An input or output as the graph declares it."""

    name: str
    dtype: str
    """NumPy's name of it; `undefined` of what is no tensor."""
    shape: tuple[int | str, ...]
    """Sizes; of one that is free, its name."""


@dataclass(frozen=True)
class About:
    """A bundle's file, and what it says of itself in the present schema."""

    file: ModelFile
    checksum: Checksum
    signed: bool
    """Whether a signature lies beside it; whether it holds, and whose it is, only a public key tells."""
    schema: str
    """The schema that the file was written in."""
    opset: int
    """The graph's own, of ONNX's standard operators."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    bundle: Bundle

    def as_json(self) -> Json:
        """Return `file`, what the file shows, and `bundle`, its metadata in the present schema.

        What may be a megabyte is left out: the digests of the images that the model has seen.
        """
        shown: Json = {
            "name": self.file.path.name,
            "bytes": len(self.file.data),
            "sha256": self.file.sha256,
            "checksum": self.checksum.value,
            "signed": self.signed,
            "schema": self.schema,
            "opset": self.opset,
            "inputs": [_plain(tensor) for tensor in self.inputs],
            "outputs": [_plain(tensor) for tensor in self.outputs],
        }
        return {"file": shown, "bundle": self.bundle.brief().model_dump(mode="json", by_alias=True)}

    def warning(self) -> str | None:
        """Return why the file is doubtful, if its checksum makes it so."""
        name = self.file.path.name
        if self.checksum is Checksum.DIFFERS:
            return f"{name} is NOT the file that {name}.sha256 is of: altered since then, damaged, or another file"
        if self.checksum is Checksum.UNREADABLE:
            return f"{name}.sha256 is no checksum: whether the file is as it was exported isn't known"
        return None


def about(path: Path) -> About:
    """Return what a bundle says of itself; raises BundleError where the file can't be read or is no bundle."""
    file = ModelFile.read(path)
    model = file.parse()
    bundle = file.bundle(model)
    written = {item.key: item.value for item in model.metadata_props}[f"{PREFIX}schema"]
    weights = {tensor.name for tensor in model.graph.initializer}
    return About(
        file=file,
        checksum=file.checksum(),
        signed=file.beside(SUFFIX).is_file(),
        schema=json.loads(written),
        opset=next((opset.version for opset in model.opset_import if opset.domain in {"", "ai.onnx"}), 0),
        inputs=tuple(_tensor(value) for value in model.graph.input if value.name not in weights),
        outputs=tuple(_tensor(value) for value in model.graph.output),
        bundle=bundle,
    )


def _tensor(value: "ValueInfoProto") -> Tensor:
    from onnx import helper

    declared = value.type.tensor_type
    shape = tuple(
        size.dim_value if size.HasField("dim_value") else size.dim_param or "any" for size in declared.shape.dim
    )
    try:
        dtype = helper.tensor_dtype_to_np_dtype(declared.elem_type).name
    except KeyError:
        dtype = "undefined"
    return Tensor(value.name, dtype, shape)


def _plain(tensor: Tensor) -> Json:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
