"""What changes as training goes on, as pure functions of how far it has come: rates, and which stages train.

Nothing here has a state of its own, so a run that is taken up again needs to know its step alone.
"""

import math
from typing import Literal

from imaging_ft.types import STAGES, Stage

Annealing = Literal["cosine", "one_cycle", "linear", "constant"]

WARMUP: dict[Annealing, float] = {"cosine": 0.1, "one_cycle": 0.3, "linear": 0.1, "constant": 0.0}
"""Share of the steps over which the rate rises where no other is asked for."""

ONE_CYCLE_START = 0.04
"""Share of the peak where one-cycle starts: 1/25, as in fastai and torch."""


def rate(step: int, steps: int, *, kind: Annealing, warmup: float | None = None) -> float:
    """Return the learning rate of a step (from 0) out of `steps` as a share of the peak, in [0, 1].

    The rate rises over the first `warmup` (None: WARMUP's) of the steps, and is exactly 1 at the last of them. It
    then falls to 0, which it would reach in the step after the last: along half a cosine, or a line; `constant`
    stays. The rise is a line, and for `one_cycle` (Smith 2018, in fastai's form: a cosine up, a cosine down; momentum
    is not cycled) half a cosine from ONE_CYCLE_START.
    """
    rising = round(steps * (WARMUP[kind] if warmup is None else warmup))
    if step < rising:
        risen = (step + 1) / rising
        return 1 - (1 - ONE_CYCLE_START) * _half_cosine(risen) if kind == "one_cycle" else risen
    fallen = min(1.0, (step - rising) / max(1, steps - rising))
    if kind == "constant":
        return 1.0
    return 1 - fallen if kind == "linear" else _half_cosine(fallen)


def unfrozen(progress: float, share: float) -> tuple[Stage, ...]:
    """Return the STAGES that train at a progress in [0, 1] of the training: the head first, the stem last.

    Gradual unfreezing (Howard and Ruder 2018, ULMFiT): one stage after another joins, at even distances, until at
    progress `share` all train; with a share of 0, all do from the start.
    """
    if progress >= share:
        return STAGES
    joined = 1 + math.floor(max(0.0, progress) / share * (len(STAGES) - 1))
    return STAGES[-joined:]


def _half_cosine(x: float) -> float:
    """Return 1 at x = 0, falling along half a cosine to 0 at x = 1."""
    return 0.5 * (1 + math.cos(math.pi * x))
