"""Batch-normalisation statistics: as pretrained, re-estimated on the training images, or trained.

Small-data fine-tuning has no one answer (Kanavati & Tsuneki 2021 for frozen statistics; far domains need
trained ones), so it's chosen by validation; see `trials`.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from imaging_ft.models.factory import Classifier
from imaging_ft.training.engine import Engine
from imaging_ft.training.images import Batch
from imaging_ft.training.team import Team


def norms(model: nn.Module) -> list[_BatchNorm]:
    """Return a model's batch-normalisation layers that keep running statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def reestimate(engine: Engine, model: Classifier, batches: Iterable[Batch]) -> None:
    """Replace the running statistics by their cumulative average over the batches."""
    found = norms(model)
    momenta = [norm.momentum for norm in found]
    model.eval()
    for norm in found:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    with torch.no_grad(), engine.fabric.autocast():
        for levels, _ in batches:
            model.embed(engine.to_device(levels))
    for norm, momentum in zip(found, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def train_mode(model: Classifier, *, freeze_statistics: bool) -> None:
    """Put a model into training mode, with batch-normalisation statistics frozen or not.

    `train()` un-freezes them, so this stands in its place everywhere. Layers whose scale and shift don't train keep
    their statistics as well: they belong to a stage that stays as it is.
    """
    model.train()
    for norm in norms(model):
        if freeze_statistics or (norm.affine and not norm.weight.requires_grad):
            norm.eval()


def synchronised(team: Team, *, on: bool) -> Any:
    """Return a context in which batch normalisation takes its statistics over the whole team's batch.

    torch's SyncBatchNorm is for GPUs alone and is another class than timm's own norms; this takes the place of the
    function that all of them call.
    """
    return _Synchronised(team) if on and team.size > 1 else nullcontext()


class _Synchronised(TorchFunctionMode):
    def __init__(self, team: Team) -> None:
        super().__init__()
        self._team = team

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not torch.nn.functional.batch_norm:
            return func(*args, **(kwargs or {}))
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        given = dict(zip(names, args, strict=False)) | dict(kwargs or {})
        if not given.get("training", False):
            return func(*args, **(kwargs or {}))
        return self._normalise(**given)

    def _normalise(
        self,
        input: Tensor,  # noqa: A002 - torch's name
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = True,  # noqa: ARG002, FBT001, FBT002 - torch's
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        x = input.float()
        channels = x.shape[1]
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, channels, *([1] * (x.ndim - 2))]
        count = x.numel() // channels
        mine = x.sum(axes) / max(1, count)
        # Chan, Golub, LeVeque 1979: each process's own mean and squares around it. The mean of squares less the squared
        # mean, which needs no mean of one's own, is all rounding where the mean is large.
        squares = (x - mine.view(shape)).square().sum(axes)
        every: Any = _Rows.apply(torch.cat([mine, squares, x.new_tensor([count])]), self._team)
        means, squares, counts = every[:, :channels], every[:, channels:-1], every[:, -1:].detach()
        number = counts.sum()
        mean = (counts * means).sum(0) / number
        variance = (squares + counts * (means - mean).square()).sum(0) / number
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean), momentum)
                running_var.lerp_((variance * number / (number - 1).clamp_min(1)).to(running_var), momentum)
        found = (x - mean.view(shape)) * torch.rsqrt(variance + eps).view(shape)
        if weight is not None:
            found = found * weight.view(shape)
        if bias is not None:
            found = found + bias.view(shape)
        return found.to(input.dtype)


class _Rows(Function):
    """One row of each of a team's processes, in every process; gradients of a row flow back to where it came from."""

    @staticmethod
    def forward(ctx: Any, row: Tensor, team: Team) -> Tensor:
        ctx.team = team
        every = row.new_zeros(team.size, len(row))
        every[team.rank] = row
        return team.sum(every)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.team.sum(gradients[0].clone())[ctx.team.rank], None
