"""Batch-normalisation statistics: re-estimated on the training images, then frozen or trained.

Small-data fine-tuning has no one answer (Kanavati & Tsuneki 2021 for frozen statistics; far domains need
trained ones), so it's chosen by validation; see `fit.choose_batch_norm`.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from imaging_ft.models.factory import Classifier
from imaging_ft.training.engine import Engine
from imaging_ft.training.images import Batch


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

    `train()` un-freezes them, so this stands in its place everywhere.
    """
    model.train()
    if freeze_statistics:
        for norm in norms(model):
            norm.eval()
