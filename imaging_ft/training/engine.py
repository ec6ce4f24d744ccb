"""The device, precision and memory layout of a run, and the passes over images that every phase makes."""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from imaging_ft.data import Images
from imaging_ft.errors import DeviceError
from imaging_ft.models.factory import Classifier
from imaging_ft.training.images import Batch, clean_batches
from imaging_ft.training.team import Team, processes
from imaging_ft.types import Floats

_STEPS = 4
_HOPELESS = 4
"""Times as slow as the fastest mode, and two passes are enough: bf16 takes seconds each where nothing computes it."""
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
"""What torch says where it has no error class of its own: on a CPU, in cuDNN, in cuBLAS."""
_FEW = 8
"""Images that tell a CPU's modes apart; a GPU has to be given a whole batch, or all that is measured is launching."""
_MODES: dict[str, tuple[Literal["32-true", "bf16-mixed", "16-mixed"], torch.memory_format]] = {
    "fp32": ("32-true", torch.contiguous_format),
    "fp32, channels_last": ("32-true", torch.channels_last),
    "bf16, channels_last": ("bf16-mixed", torch.channels_last),
    "fp16, channels_last": ("16-mixed", torch.channels_last),
}


@dataclass(frozen=True)
class Engine:
    """Where and how the network runs."""

    fabric: Fabric
    layout: torch.memory_format
    mode: str
    """A name in `_MODES`, such as `fp32` or `bf16, channels_last`."""
    speeds: dict[str, float] = field(default_factory=dict[str, float])
    """Images a second by mode, trained on and predicted, as measured; empty where nothing was compared."""

    @property
    def team(self) -> Team:
        """The processes that train together."""
        return Team(self.fabric)

    @property
    def scales_loss(self) -> bool:
        """Whether gradients are small enough to be lost without scaling: in fp16."""
        return self.mode.startswith("fp16")

    def place(self, model: Classifier) -> Classifier:
        """Move a model to the device and into the memory layout."""
        return model.to(self.fabric.device).to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]

    def to_device(self, levels: Tensor) -> Tensor:
        """Return a batch on the device, in the memory layout."""
        return levels.to(self.fabric.device).contiguous(memory_format=self.layout)

    def predict(self, model: Classifier, batches: Iterable[Batch], *, features: bool = False) -> tuple[Floats, Floats]:
        """Return logits (or features) [n, …] in float64 and targets [n, classes], in evaluation mode.

        No gradients are kept. In a team, each process passes the batches that it is given: `predict_images` shares.
        """
        model.eval()
        outputs: list[Tensor] = []
        targets: list[Tensor] = []
        with torch.inference_mode(), self.fabric.autocast():
            for levels, truth in batches:
                placed = self.to_device(levels)
                outputs.append((model.embed(placed) if features else model(placed)).float().cpu())
                targets.append(truth)
        if not outputs:
            return np.zeros((0, model.head.in_features if features else model.head.out_features)), np.zeros((0, 0))
        return torch.cat(outputs).double().numpy(), torch.cat(targets).numpy()

    def predict_images(self, model: Classifier, images: Images, batch_size: int, *, features: bool = False) -> Floats:
        """Return logits (or features) [n, …] of images as they are, which the team's processes share out."""
        team = self.team
        mine = Images(images.levels[team.rank :: team.size], images.targets[team.rank :: team.size])
        found, _ = self.predict(model, clean_batches(mine, batch_size), features=features)
        return team.rows(found, len(images))


def make_engine(
    model: Classifier, levels: Tensor, *, device: str, precision: str, classes: int, mode: str | None = None
) -> Engine:
    """Return the engine for a device and precision; with `auto` the fastest mode for this model is measured.

    `levels` is what of a batch passes at once, to measure with; `mode` is that of a run which is taken up again. Under
    torchrun, the engine is one process's part of all. Raises DeviceError where CUDA was asked for and isn't there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: torch sees no CUDA device here; imaging-ft doctor says more")
    accelerator = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if precision == "fp16" and accelerator == "cpu":
        raise DeviceError("precision fp16 needs CUDA; on a CPU, --set precision=bf16")
    if mode in _MODES:
        return _engine(accelerator, mode)
    if precision == "fp32":
        return _engine(accelerator, "fp32")
    fit = [name for name in _MODES if accelerator == "cuda" or not name.startswith("fp16")]
    names = [name for name in fit if precision == "auto" or name.startswith(precision)]
    if precision == "auto":
        names = [name for name in names if not name.startswith("fp16")]  # bf16 is as fast and needs no scaling
    if len(names) == 1:
        return _engine(accelerator, names[0])
    measured = levels if accelerator == "cuda" else levels[:_FEW]
    speeds: dict[str, float] = {}
    for name in names:
        to_beat = max(speeds.values(), default=0.0)
        speeds[name] = _speed_that_fits(_engine(accelerator, name), model, measured, classes, to_beat)
    best = max(speeds, key=speeds.__getitem__)
    return _engine(accelerator, _engine(accelerator, best).team.agree(best), speeds)


def _engine(accelerator: str, mode: str, speeds: dict[str, float] | None = None) -> Engine:
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it names the precision at each start
    precision, layout = _MODES[mode]
    devices, machines = processes()
    if devices * machines == 1:
        return Engine(Fabric(accelerator=accelerator, devices=1, precision=precision), layout, mode, speeds or {})
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=machines, strategy="ddp", precision=precision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fabric.launch()  # joins the processes that torchrun started; a second time, nothing
    return Engine(fabric, layout, mode, speeds or {})


def _speed_that_fits(engine: Engine, model: Classifier, levels: Tensor, classes: int, to_beat: float) -> float:
    """Return images a second, with half the images as long as memory runs out; 0 where even a few don't fit."""
    while len(levels) > 1:
        try:
            return _speed(engine, model, levels, classes, to_beat)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
        levels = levels[: len(levels) // 2]  # outside of the handler, which would keep the activations alive
        if engine.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
    return 0.0


def ran_out(error: BaseException) -> bool:
    """Return whether an error is torch's for memory that ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in _OUT_OF_MEMORY
    )


def _speed(engine: Engine, model: Classifier, levels: Tensor, classes: int, to_beat: float) -> float:
    """Return images a second, each trained on once and predicted once, as in an epoch: by the fastest of a few passes.

    Both count, since precisions differ more in prediction than in training. Passes end where `to_beat` images a second
    are out of reach.
    """
    limit = _HOPELESS * len(levels) / to_beat if to_beat else math.inf
    state = {name: value.clone() for name, value in model.state_dict().items()}
    placed = engine.place(model)
    target = torch.arange(len(levels), device=engine.fabric.device) % classes

    def learn() -> None:
        placed.train()
        with engine.fabric.autocast():
            loss = nn.functional.cross_entropy(placed(engine.to_device(levels)), target)
        loss.backward()

    def predict() -> None:
        placed.eval()
        with torch.inference_mode(), engine.fabric.autocast():
            placed(engine.to_device(levels))

    try:
        return len(levels) / sum(_fastest(engine, act, limit) for act in (learn, predict))
    finally:
        placed.zero_grad(set_to_none=True)
        placed.load_state_dict(state)


def _fastest(engine: Engine, act: Callable[[], None], limit: float) -> float:
    """Return the seconds of the fastest of a few passes; of two, the first of which warms up, if both reach `limit`."""
    taken: list[float] = []
    while len(taken) < _STEPS and (len(taken) < 2 or min(taken) < limit):
        taken.append(_seconds(engine, act))
    return min(taken)


def _seconds(engine: Engine, act: Callable[[], None]) -> float:
    start = time.perf_counter()
    act()
    if engine.fabric.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
