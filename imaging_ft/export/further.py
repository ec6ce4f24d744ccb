"""What is written beside the ONNX file on request: a Triton repository with its KServe manifest, a MONAI bundle."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from imaging_ft.bundle import Bundle
from imaging_ft.export.kserve import manifest_path, service_name, write_kserve
from imaging_ft.export.monai_bundle import check_folder, write_monai_bundle
from imaging_ft.export.target import Target
from imaging_ft.export.triton import check_servable, next_version, write_triton
from imaging_ft.models.factory import Classifier
from imaging_ft.training.run import ModelInfo

STORAGE = "s3://bucket"
"""Stands in the manifest for the address that only the reader knows."""


@dataclass(frozen=True)
class Further:
    """The folders of what is wanted beside a model called `name`; None where something isn't."""

    name: str
    triton: Path | None = None
    monai_bundle: Path | None = None

    def check(self, target: Target) -> None:
        """Raise InputError where one of them can't be written, before hours of work are done for it."""
        if self.triton is not None:
            check_servable(target.graph(target.precision), self.name)
            service_name(self.name)
        if self.monai_bundle is not None:
            check_folder(self.monai_bundle)

    def write(
        self, graph: onnx.ModelProto, bundle: Bundle, model: Classifier, info: ModelInfo
    ) -> list[tuple[str, Path]]:
        """Write them, and return what each is called and where it lies; raises InputError and ParityError."""
        written: list[tuple[str, Path]] = []
        if self.triton is not None:
            version = next_version(self.triton, self.name)
            write_triton(graph, bundle, self.triton, name=self.name, version=version)
            storage = f"{STORAGE}/{self.triton.resolve().name}"
            on_gpu = any(provider != "CPUExecutionProvider" for provider in bundle.graph.providers)
            manifest = manifest_path(self.triton, self.name)
            write_kserve(bundle, manifest, name=self.name, storage=storage, gpu=on_gpu)
            written += [(f"triton {version}", self.triton / self.name), ("kserve", manifest)]
        if self.monai_bundle is not None:
            write_monai_bundle(model, info, bundle, self.monai_bundle, name=self.name)
            written.append(("monai bundle", self.monai_bundle))
        return written
