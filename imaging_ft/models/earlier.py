"""An earlier run as the start of the next: its backbone, and of its head what stands for the same labels."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from imaging_ft.config import reason
from imaging_ft.errors import WeightsError
from imaging_ft.models.factory import Classifier
from imaging_ft.models.weights import load_tensors, read_state_dict
from imaging_ft.preprocess import InputSpec

INFO = "model.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class EarlierRun:
    """What an earlier run's `model.json` and `model.safetensors` hold."""

    path: Path
    model: str
    """`timm/NAME` or `monai/NAME`."""
    labels: tuple[str, ...]
    backbone: dict[str, Tensor]
    """The backbone's state dict, without a prefix."""
    weight: Tensor
    """The head's, [labels, features]."""
    bias: Tensor
    """The head's, [labels]."""
    input: InputSpec | None
    """What the network saw; None where `model.json` doesn't say."""

    def install_backbone(self, model: Classifier) -> None:
        """Load the run's backbone; raises WeightsError where the model is another one, naming both."""
        if architecture(model.name) != architecture(self.model):
            raise WeightsError(
                f"{self.path}: was trained with {self.model}, but the model is {model.name}; write --model {self.model}"
            )
        load_tensors(model.backbone, self.backbone, where=str(self.path / WEIGHTS))

    def install_head(self, model: Classifier, labels: Sequence[str]) -> tuple[str, ...]:
        """Copy the head's rows for the labels that both have, and return these labels.

        `labels` are those of the model's head, in its order; rows of other labels stay as they are.
        """
        if len(labels) != model.head.out_features:
            raise ValueError(f"{len(labels)} labels for a head of {model.head.out_features} classes")
        shared = tuple(label for label in labels if label in self.labels)
        with torch.no_grad():
            for label in shared:
                row, stored = list(labels).index(label), self.labels.index(label)
                model.head.weight[row] = self.weight[stored].to(model.head.weight)
                model.head.bias[row] = self.bias[stored].to(model.head.bias)
        return shared


def load_run(path: Path) -> EarlierRun:
    """Return what a finished run's folder holds of its model; raises WeightsError where it isn't one."""
    described = _described(path)
    try:
        model, labels = str(described["backbone"]), tuple(str(label) for label in described["labels"])
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path / INFO}: not a run's: names no backbone and labels") from error
    try:
        seen = InputSpec.model_validate(described["input"]) if "input" in described else None
    except ValidationError as error:
        raise WeightsError(f"{path / INFO}: damaged: {reason(error)}") from error
    stored = read_state_dict(path / WEIGHTS)
    try:
        weight, bias = stored["head.weight"], stored["head.bias"]
    except KeyError as error:
        raise WeightsError(f"{path / WEIGHTS}: holds no {error.args[0]}; is it a run's model?") from error
    if len(weight) != len(labels) or len(bias) != len(labels):
        raise WeightsError(f"{path / WEIGHTS}: a head of {len(weight)} classes, but {INFO} has {len(labels)} labels")
    prefix = "backbone."
    backbone = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    return EarlierRun(path, model, labels, backbone, weight, bias, seen)


def practised(path: Path) -> list[str]:
    """Return the conditions that a run's model has met in training; of weights that are no run's, none is known.

    `path` is the run's folder, or the weights in it.
    """
    folder = path.parent if path.name == WEIGHTS else path
    if not (folder / INFO).is_file():
        return []
    provenance = _described(folder).get("provenance")
    found = provenance.get("practised") if isinstance(provenance, dict) else None
    return [str(name) for name in found] if isinstance(found, list) else []


def architecture(name: str) -> str:
    """Return a model's name without the tag of its weights: `timm/resnet18` for `timm/resnet18.a1_in1k`.

    A bare name is timm's.
    """
    library, _, model = name.rpartition("/")
    return f"{library or 'timm'}/{model.partition('.')[0]}"


def _described(path: Path) -> dict[str, Any]:
    try:
        values = json.loads((path / INFO).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no finished run: {INFO} is missing") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path / INFO}: can't be read: {reason(error)}") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path / INFO}: not a run's: holds no object")
    return values
