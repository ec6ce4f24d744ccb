"""Deployment targets: what an exported file is made for, read from YAML."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imaging_ft import catalog
from imaging_ft.bundle import Graph
from imaging_ft.config import Frozen
from imaging_ft.errors import InputError
from imaging_ft.preprocess.graph import OPSET
from imaging_ft.types import Precision

Size = Annotated[int, Field(ge=1, le=4096)]


class Target(Frozen):
    """What a file is made for: which runtime, on what, in which numbers."""

    name: str
    title: str
    """One line for people."""
    runtime: Literal["onnxruntime", "onnxruntime-web", "tensorrt", "opencv-dnn"]
    precision: Precision = Precision.FP32
    """Where `--precision` says nothing else."""
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)] = tuple(Precision)
    """Those that the runtime computes in."""
    opset: Literal[10, 18] = OPSET
    preprocessing: Literal["inside", "outside"] = "inside"
    resize: Literal["antialias", "matmul"] = "antialias"
    batch: Literal[1] | None = None
    """1: the file takes an image at a time; null: any number of them."""
    batches: Annotated[tuple[Size, ...], Field(min_length=1)] = (1, 2, 4, 8, 16, 32)
    providers: tuple[str, ...] = ()
    """onnxruntime's execution providers in order of preference; none where another runtime reads the file."""
    saliency: bool = False
    """Give the class activation map where the network has one."""
    sidecar: bool = False
    """Write the metadata beside the file as well, for runtimes that can't read a model's metadata."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.precision not in self.precisions:
            raise ValueError(f"precision {self.precision} is not among its precisions")
        if self.preprocessing == "inside" and self.opset != OPSET:
            raise ValueError(f"opset {self.opset}: preprocessing inside the graph needs opset {OPSET}")
        if self.batch is not None and self.batches != (self.batch,):
            raise ValueError(f"batches {list(self.batches)}: a file of batch {self.batch} takes no other")
        return self

    def graph(self, precision: Precision, *, float_layers: tuple[str, ...] = ()) -> Graph:
        """Return what a bundle says of its graph."""
        return Graph(
            target=self.name,
            precision=precision,
            opset=self.opset,
            preprocessing=self.preprocessing,
            resize=self.resize,
            batch=self.batch,
            batches=self.batches,
            providers=self.providers,
            float_layers=float_layers,
        )

    def chosen(self, precision: Precision | None) -> Precision:
        """Return the precision to export in; raises InputError where the target doesn't compute in it."""
        if precision is None or precision in self.precisions:
            return precision or self.precision
        raise InputError(
            f"--precision {precision}: target {self.name} takes {' or '.join(self.precisions)};"
            " choose one, or another --target"
        )


def load_target(name: str) -> Target:
    """Return the built-in target of a name, or the one in a YAML file; raises ConfigError."""
    return Target.from_yaml(catalog.find(name, on="export/targets"))
