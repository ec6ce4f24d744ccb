"""The processes of one training: a single one, or several under torchrun that work as one.

Every process makes the same decisions from the same numbers. They share the images of each batch out among them and
add up their gradients, so that a step is the one that a single process would make. Only the first one writes and
speaks.
"""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from imaging_ft.errors import DeviceError
from imaging_ft.types import Floats


@dataclass(frozen=True)
class Team:
    """The process's place among all of them, and what they do together."""

    fabric: Fabric

    @property
    def rank(self) -> int:
        """The process's number, from 0."""
        return self.fabric.global_rank

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.fabric.world_size

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.size == 1:
            return values
        found = self.fabric.all_reduce(values, reduce_op="sum")
        return found if isinstance(found, Tensor) else values

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace gradients by their sums over all processes, in one message."""
        if self.size == 1:
            return
        gradients = [
            parameter.grad if parameter.grad is not None else torch.zeros_like(parameter) for parameter in parameters
        ]
        flat = self.sum(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        start = 0
        for parameter, gradient in zip(parameters, gradients, strict=True):
            part = flat[start : start + gradient.numel()].view_as(gradient)
            parameter.grad = torch.empty_like(parameter).copy_(part)  # in its memory layout, as autograd leaves it
            start += gradient.numel()

    def rows(self, mine: Floats, count: int) -> Floats:
        """Return rows [count, …] in order, of which each process holds every `size`-th, beginning at its rank."""
        if self.size == 1:
            return mine
        every = np.zeros((count, *mine.shape[1:]), mine.dtype)
        every[self.rank :: self.size] = mine
        return self.sum(torch.from_numpy(every).to(self.fabric.device)).cpu().numpy()

    def agree(self, value: Any) -> Any:
        """Return the first process's value in every process."""
        return self.fabric.broadcast(value) if self.size > 1 else value

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            self.fabric.barrier()


class CtrlC:
    """A first Ctrl-C to one process of a team: remembered, until all of them can stop at the same step.

    Broken off wherever it stands, a process would leave the others waiting for it. A second Ctrl-C to the same process
    does break off at once.

    What can be promised: torchrun passes a Ctrl-C on once to each of its processes, and kills those that haven't ended
    30 seconds later (its `--shutdown-timeout`). The team stops after the step that runs; where what follows the epochs
    (interpolation, calibration, writing) fits into the rest of that time, the best model is kept as after any training.
    Where it doesn't, or a process is sent SIGTERM, which ends it at once, the checkpoints hold the best model and
    `--resume` goes on from the last one.
    """

    def __init__(self, second: Callable[[int, FrameType | None], Any] | None = None) -> None:
        """Take what a second one does."""
        self.came = False
        self._second = second

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal, as its handler."""
        if self.came and self._second is not None:
            self._second(number, frame)
        self.came = True


def await_ctrl_c() -> CtrlC:
    """Let a first Ctrl-C to this process be remembered from now on, and return what remembers it.

    It stays so until the process ends: a signal may reach one process when another has already told this one to stop,
    and must not break off what follows the epochs. Where Ctrl-C is ignored, or can't come here (a thread that isn't the
    main one), nothing changes.
    """
    now = signal.getsignal(signal.SIGINT)
    if isinstance(now, CtrlC):  # of an earlier fold
        return now
    if not callable(now) or threading.current_thread() is not threading.main_thread():
        return CtrlC()
    found = CtrlC(now)
    signal.signal(signal.SIGINT, found)
    return found


def processes() -> tuple[int, int]:
    """Return how many processes torchrun started on this machine, and on how many machines; (1, 1) without it."""
    if not (torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()):
        return 1, 1
    local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if world % local:
        raise DeviceError(f"{world} processes don't divide into machines of {local}; start as many on each machine")
    return local, world // local


def is_lead() -> bool:
    """Return whether this is the process that writes and speaks; known before the processes have met."""
    return processes() == (1, 1) or os.environ.get("RANK", "0") == "0"
