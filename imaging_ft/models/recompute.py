"""Gradient checkpointing: activations are computed again on the way back instead of kept, to save memory.

Chen, Xu, Zhang, Guestrin: Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from collections.abc import Callable
from typing import Any

import torch
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


class _Recomputed:
    """A module's forward that is run again on the way back."""

    def __init__(self, forward: Callable[..., torch.Tensor]) -> None:
        self.forward = forward

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return self.forward(inputs)
        result: Any = checkpoint(self.forward, inputs, use_reentrant=False)
        return result
