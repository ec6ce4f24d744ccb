"""The run folder: what a training leaves behind, written so that a kill never leaves half a file."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from imaging_ft.bundle import Seen, Threshold, VectorScaling, check_decision
from imaging_ft.config import Frozen, reason
from imaging_ft.errors import ImagingFtError, RunError
from imaging_ft.models.factory import NONE, Classifier, create
from imaging_ft.preprocess import InputSpec
from imaging_ft.types import Json, Task

FILES = (
    "config.yaml",
    "dataset.json",
    "history.csv",
    "history.png",
    "model.safetensors",
    "model.json",
    "summary.json",
)
"""What a run folder holds beside its checkpoints."""


class ModelInfo(Frozen):
    """`model.json`: what `model.safetensors` is the weights of."""

    backbone: str
    """`timm/NAME` or `monai/NAME`."""
    task: Task
    labels: tuple[str, ...]
    input: InputSpec
    temperature: Annotated[float, Field(gt=0)]
    """1 where there is a vector scaling."""
    vector_scaling: VectorScaling | None = None
    """Each class's logit times scale plus bias, in place of the temperature."""
    thresholds: dict[str, Threshold]
    """For each label, the probability from which it counts as present."""
    metrics: Json
    """What the model reached on validation."""
    provenance: Json
    seen: Seen | None = None
    """The images that it was trained or validated on; null in a run from before they were recorded."""
    intended_use: str | None = None

    @model_validator(mode="after")
    def _decides_on_its_labels(self) -> Self:
        check_decision(
            self.labels,
            task=self.task,
            thresholds=self.thresholds,
            temperature=self.temperature,
            vector_scaling=self.vector_scaling,
        )
        return self


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of the last and the best checkpoint."""
        return self.path / "checkpoints"

    @staticmethod
    def check_free(path: Path, *, overwrite: bool) -> None:
        """Raise RunError where a new run can't take a path.

        A finished or broken-off run may only be replaced with `overwrite`; a folder that is not a run's never is.
        """
        if not path.exists():
            return
        if not path.is_dir():
            raise RunError(f"{path}: a file stands where the run folder should be; choose another --out")
        if not any(path.iterdir()):
            return
        if not ((path / "config.yaml").is_file() and (path / "checkpoints").is_dir()):
            raise RunError(f"{path}: not empty, and not a run folder; choose another --out")
        if not overwrite:
            raise RunError(f"{path}: already holds a run; choose another --out, or replace it with --overwrite")

    @classmethod
    def create(cls, path: Path, *, overwrite: bool) -> "RunFolder":
        """Return a new run folder; raises RunError where the path is taken or can't be written.

        Of a run that is replaced its own files go; what else lies beside them (an export, notes) stays.
        """
        cls.check_free(path, overwrite=overwrite)
        run = cls(path)
        try:
            if run.checkpoints.exists():
                shutil.rmtree(run.checkpoints)
            for name in FILES:
                (path / name).unlink(missing_ok=True)
            run.checkpoints.mkdir(parents=True)
            run.sweep()
        except OSError as error:
            raise RunError(f"{path}: can't be made: {reason(error)}") from error
        return run

    @classmethod
    @contextmanager
    def claimed(cls, path: Path, config: str, *, overwrite: bool) -> Iterator[None]:
        """Claim a path for a run while all is looked at that it needs.

        A new folder is made at once, with a `config.yaml`, so that a training that is killed while it reads its images
        is taken up again with its own settings; where an error of the user's ends it, the folder goes again. A run that
        is to be replaced stays as it is. Raises RunError where the path is taken or can't be written.
        """
        cls.check_free(path, overwrite=overwrite)
        existed = path.is_dir()
        if existed and any(path.iterdir()):
            try_to_write(path, into=path)
            yield
            return
        run = cls.create(path, overwrite=False)
        write_text(path / "config.yaml", config)
        try:
            yield
        except ImagingFtError:
            shutil.rmtree(run.checkpoints, ignore_errors=True)
            (path / "config.yaml").unlink(missing_ok=True)
            if not existed:
                with suppress(OSError):
                    path.rmdir()
            raise

    def sweep(self) -> None:
        """Remove what a killed process left half-written."""
        for name in FILES:
            for path in self.path.glob(f".{name}.*.part"):
                path.unlink(missing_ok=True)
        for path in self.checkpoints.glob(".*.part"):
            path.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Return a run folder that holds a model; raises RunError where it doesn't."""
        if not path.is_dir():
            raise RunError(f"{path}: no such run folder")
        for name in ("model.json", "model.safetensors"):
            if not (path / name).is_file():
                raise RunError(f"{path}: holds no {name}; train first: imaging-ft train DATASET --out {path}")
        return cls(path)

    def write_json(self, name: str, values: Json) -> None:
        """Write a JSON file of the run."""
        write_text(self.path / name, json.dumps(values, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Json:
        """Return a JSON file of the run; raises RunError where it's missing or damaged."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise RunError(f"{path}: can't be read: {reason(error)}; train again") from error

    def write_history(self, rows: list[Json]) -> None:
        """Write `history.csv`: a row an epoch."""
        with replacing(self.path / "history.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def write_model(self, model: Classifier, info: ModelInfo) -> None:
        """Write the final weights and what they are."""
        save_weights(self.path / "model.safetensors", model.state_dict())
        write_text(self.path / "model.json", info.model_dump_json(indent=2) + "\n")

    def read_model(self) -> tuple[Classifier, ModelInfo]:
        """Return the trained model in evaluation mode and what it is; raises RunError where it's damaged."""
        path = self.path / "model.json"
        try:
            info = ModelInfo.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise RunError(f"{path}: damaged: {reason(error)}; train again") from error
        model = create(info.backbone, classes=len(info.labels), weights=NONE)
        weights = self.path / "model.safetensors"
        try:
            model.load_state_dict(load_file(weights))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise RunError(f"{weights}: damaged, or not of {info.backbone}: {reason(error)}; train again") from error
        return model.eval(), info


def try_to_write(path: Path, *, into: Path) -> None:
    """Raise RunError, of a path, where nothing can be written into a folder, which is made where it isn't there."""
    try:
        into.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=into):
            pass
    except OSError as error:
        raise RunError(f"{path}: can't be written: {reason(error)}") from error


def save_weights(path: Path, state: dict[str, Tensor]) -> None:
    """Write a state dict as safetensors."""
    with replacing(path) as temporary:
        temporary.write_bytes(save({name: value.detach().cpu().contiguous() for name, value in state.items()}))


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` and rename it on success, so that a reader never sees half a file.

    Raises RunError where the disk refuses (full, read-only).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path}: can't be written: {reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def plain(values: Json) -> Json:
    """Return values with NumPy's numbers as Python's, rounded to six digits, for JSON and CSV."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return float(f"{value:.6g}") if isinstance(value, float) else value
