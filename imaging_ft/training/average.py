"""Weights between weights: the moving average while training, and interpolation after it."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor

from imaging_ft.models.factory import Classifier


class MovingAverage:
    """An exponential moving average of a model's weights and statistics.

    Its decay fits the run: min(0.999, 1 − 1 / (2 · steps per epoch)), a memory of about two epochs. Switched off, it
    is the model's weights as they are.
    """

    def __init__(self, model: Classifier, *, steps_per_epoch: int, on: bool = True) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self.decay = min(0.999, 1 - 1 / (2 * max(1, steps_per_epoch))) if on else 0.0

    @torch.no_grad()
    def update(self, model: Classifier) -> None:
        """Take in the weights after a step: all fractions at once, which on a GPU is a few launches, not hundreds."""
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for mine, new in zip(_tensors(self.model), _tensors(model), strict=True):
            if mine.is_floating_point() and self.decay:
                averaged.append(mine)
                current.append(new)
            else:
                mine.copy_(new)
        if averaged:
            move(averaged, current, 1 - self.decay)


@torch.no_grad()
def move(tensors: Sequence[Tensor], ends: Sequence[Tensor], weight: float) -> None:
    """Move each tensor by a share of the way to its end; on a GPU in a few launches for all of them."""
    torch._foreach_lerp_(list(tensors), list(ends), weight)  # pyright: ignore[reportPrivateImportUsage] - as swa_utils


def _tensors(model: Classifier) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


def interpolated(start: Mapping[str, Tensor], end: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return the state dict (1 − α) start + α end; what is no number with a fraction is the end's.

    WiSE-FT (Wortsman et al. 2022): between the model that fine-tuning starts from and the one that it ends with
    lie some that keep the first one's robustness with the second one's accuracy.
    """
    return {
        name: torch.lerp(start[name].to(value), value, alpha)
        if value.is_floating_point() and alpha < 1
        else value.clone()
        for name, value in end.items()
    }
