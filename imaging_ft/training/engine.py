"""The device, precision and memory layout of a run, and the passes over images that every phase makes."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from imaging_ft.errors import DeviceError
from imaging_ft.models.factory import Classifier
from imaging_ft.training.images import Batch
from imaging_ft.types import Floats, Ints

_STEPS = 3
_MODES: dict[str, tuple[Literal["32-true", "bf16-mixed"], torch.memory_format]] = {
    "fp32": ("32-true", torch.contiguous_format),
    "fp32, channels_last": ("32-true", torch.channels_last),
    "bf16, channels_last": ("bf16-mixed", torch.channels_last),
}


@dataclass(frozen=True)
class Engine:
    """Where and how the network runs."""

    fabric: Fabric
    layout: torch.memory_format
    mode: str
    """`fp32`, `fp32, channels_last` or `bf16, channels_last`."""
    speeds: dict[str, float]
    """Training images a second by mode, as measured; empty where nothing was compared."""

    def place(self, model: Classifier) -> Classifier:
        """Move a model to the device and into the memory layout."""
        return model.to(self.fabric.device).to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]

    def to_device(self, levels: Tensor) -> Tensor:
        """Return a batch on the device, in the memory layout."""
        return levels.to(self.fabric.device).contiguous(memory_format=self.layout)

    def predict(self, model: Classifier, batches: Iterable[Batch], *, features: bool = False) -> tuple[Floats, Ints]:
        """Return logits (or features) [n, …] in float64 and labels [n], in evaluation mode without gradients."""
        model.eval()
        outputs: list[Tensor] = []
        labels: list[Tensor] = []
        with torch.inference_mode(), self.fabric.autocast():
            for levels, truth in batches:
                placed = self.to_device(levels)
                outputs.append((model.embed(placed) if features else model(placed)).float().cpu())
                labels.append(truth.argmax(dim=1))
        return torch.cat(outputs).double().numpy(), torch.cat(labels).numpy()


def make_engine(model: Classifier, levels: Tensor, *, device: str, precision: str, classes: int) -> Engine:
    """Return the engine for a device and precision; with `auto` the fastest mode for this model is measured.

    `levels` is a batch to measure with. Raises DeviceError where CUDA was asked for and isn't there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: torch sees no CUDA device here; imaging-ft doctor says more")
    accelerator = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if precision == "fp32":
        return _engine(accelerator, "fp32", {})
    names = [name for name in _MODES if precision == "auto" or name.startswith(precision)]
    if len(names) == 1:
        return _engine(accelerator, names[0], {})
    speeds = {name: _speed(_engine(accelerator, name, {}), model, levels, classes) for name in names}
    return _engine(accelerator, max(speeds, key=speeds.__getitem__), speeds)


def _engine(accelerator: str, mode: str, speeds: dict[str, float]) -> Engine:
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it names the precision at each start
    precision, layout = _MODES[mode]
    return Engine(Fabric(accelerator=accelerator, devices=1, precision=precision), layout, mode, speeds)


def _speed(engine: Engine, model: Classifier, levels: Tensor, classes: int) -> float:
    """Return training images a second: the fastest of a few steps after a warm-up."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    placed = engine.place(model).train()
    target = torch.arange(len(levels), device=engine.fabric.device) % classes
    seconds: list[float] = []
    for _ in range(_STEPS):
        start = time.perf_counter()
        with engine.fabric.autocast():
            loss = nn.functional.cross_entropy(placed(engine.to_device(levels)), target)
        loss.backward()
        if engine.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    placed.zero_grad(set_to_none=True)
    placed.load_state_dict(state)
    return float(len(levels) / np.min(seconds[1:]))
