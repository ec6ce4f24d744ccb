"""Gradient checkpointing: activations are computed again on the way back instead of kept, to save memory.

Chen, Xu, Zhang, Guestrin: Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from imaging_ft.models.factory import Classifier
from imaging_ft.models.monai_nets import BLOCKS


def checkpoint_gradients(model: Classifier) -> bool:
    """Let a backbone keep the activations at its blocks' ends alone, and return whether it can.

    The gradients are the same. Batch-normalisation statistics that are trained take each batch in twice: their
    momentum is about doubled.
    """
    backbone: Any = model.backbone
    if hasattr(backbone, "set_grad_checkpointing"):
        try:
            backbone.set_grad_checkpointing(enable=True)
        except (AssertionError, TypeError, NotImplementedError):  # how timm's models say that they can't
            return False
        return True
    blocks = [module for name, module in backbone.named_modules() if BLOCKS.fullmatch(name)]
    for block in blocks:
        if not isinstance(block.forward, _Recomputed):
            block.forward = _Recomputed(block.forward)
    return bool(blocks)


@contextmanager
def in_every_pass(layers: Iterable[nn.Module], context: AbstractContextManager[Any]) -> Iterator[None]:
    """Enter a context around each layer's forward pass, the one that is run again on the way back too.

    That one runs within `backward`, and for CUDA in a thread of autograd's: torch functions' modes that are on around
    the model's forward pass aren't on there, and `backward` leaves those that are on around itself.
    """
    wrapped = [(layer, layer.forward, "forward" in vars(layer)) for layer in layers]
    for layer, forward, _ in wrapped:
        layer.forward = _Within(context, forward)
    try:
        yield
    finally:
        for layer, forward, own in wrapped:
            if own:
                layer.forward = forward
            else:
                del layer.forward


class _Within:
    """A module's forward inside a context that can be entered again and again."""

    def __init__(self, context: AbstractContextManager[Any], forward: Callable[..., torch.Tensor]) -> None:
        self.context = context
        self.forward = forward

    def __call__(self, *inputs: Any, **options: Any) -> torch.Tensor:
        with self.context:
            return self.forward(*inputs, **options)


class _Recomputed:
    """A module's forward that is run again on the way back."""

    def __init__(self, forward: Callable[..., torch.Tensor]) -> None:
        self.forward = forward

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return self.forward(inputs)
        result: Any = checkpoint(self.forward, inputs, use_reentrant=False)
        return result
