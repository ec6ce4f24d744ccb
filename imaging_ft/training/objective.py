"""What training makes smaller: the loss of each sample, and the weights of classes in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from imaging_ft.catalog import suggest
from imaging_ft.errors import ConfigError
from imaging_ft.types import Floats, Ints, Task

Kind = Literal["cross_entropy", "focal"]

MAX_POSITIVE_WEIGHT = 100.0
"""Largest automatic weight of a multi-label class's positives; one rare image would otherwise steer the training."""


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss of a batch, sample by sample.

    It is not averaged, so that accumulated batches and several processes can add up their losses and divide by the
    count of them all; an average of averages would weigh the samples of a small last batch more.
    """

    task: Task
    kind: Kind = "cross_entropy"
    class_weights: Tensor | None = None
    """[classes], as `class_weights` makes them: of samples, or for a multi-label task of each label's positives."""
    label_smoothing: float = 0.0
    """Share of the target, in [0, 1), that is spread over all classes (multi-label: that goes towards 0.5)."""
    focal_gamma: float = 2.0
    """How much less a sample counts that is right already: by (1 − p)^γ; 0 is cross-entropy."""

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return losses [batch] (nats) of logits [batch, classes] float32 against targets of the same shape.

        Targets are in [0, 1]: one-hot, soft (mixup), or multi-hot for a multi-label task, where the loss is the mean
        over the labels. Focal: Lin et al. 2017, equation 4, each class's term weighed by its share of the target.
        """
        if self.task is Task.MULTILABEL:
            return self._of_labels(logits, targets)
        log_p = functional.log_softmax(logits, dim=1)
        smooth = (1 - self.label_smoothing) * targets + self.label_smoothing / targets.shape[1]
        terms = -smooth * log_p
        if self.kind == "focal":
            # Kept off zero: the slope of x^γ is infinite there for γ < 1, and infinity · 0 is no number.
            terms = terms * (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny) ** self.focal_gamma
        losses = terms.sum(dim=1)
        if self.class_weights is None:
            return losses
        return losses * (targets @ self.class_weights.to(targets))

    def _of_labels(self, logits: Tensor, targets: Tensor) -> Tensor:
        smooth = (1 - self.label_smoothing) * targets + self.label_smoothing / 2
        log_p, log_q = functional.logsigmoid(logits), functional.logsigmoid(-logits)
        present, absent = -smooth * log_p, -(1 - smooth) * log_q
        if self.kind == "focal":
            present = present * torch.exp(self.focal_gamma * log_q)
            absent = absent * torch.exp(self.focal_gamma * log_p)
        if self.class_weights is not None:
            present = present * self.class_weights.to(targets)
        return (present + absent).mean(dim=1)


def class_weights(
    setting: Literal["none", "auto"] | Mapping[str, float],
    counts: Ints | Sequence[int],
    labels: Sequence[str],
    *,
    images: int | None = None,
) -> npt.NDArray[np.float32] | None:
    """Return the weights [classes] for `Objective`, or None for `none`.

    `counts` are the training images of each label. `auto` is inverse frequency, n / (C · n_c). A mapping names some
    classes or all; those it leaves out weigh 1. Weights are scaled so that the mean weight of a training image is 1:
    they change what counts, not the size of a step.

    `images`, the number of training images, is given for a multi-label task alone. The weights are then those of the
    labels' positives against their negatives (`auto`: negatives / positives, at most MAX_POSITIVE_WEIGHT), and are not
    scaled: a negative's weight is 1.

    Raises ConfigError where the mapping names an unknown class, or a weight that is not a number above 0.
    """
    if setting == "none":
        return None
    found = np.asarray(counts, np.float64)
    present = found > 0  # a class without training images is never met: its weight is 1
    weights = np.ones(len(labels))
    if isinstance(setting, Mapping):
        weights[:] = _named(setting, labels)
    elif images is not None:
        weights[present] = np.clip(
            (images - found[present]) / found[present], 1 / MAX_POSITIVE_WEIGHT, MAX_POSITIVE_WEIGHT
        )
    else:
        weights[present] = found.sum() / (present.sum() * found[present])
    return (weights if images is not None else _mean_one(weights, found)).astype(np.float32)


def _mean_one(weights: Floats, counts: Floats) -> Floats:
    """Return weights whose mean over the training images is 1."""
    return weights * counts.sum() / (weights @ counts)


def _named(setting: Mapping[str, float], labels: Sequence[str]) -> list[float]:
    for name, weight in setting.items():
        if name not in labels:
            raise ConfigError(f"class_weights: no class named {name!r}; {suggest(str(name), list(labels))}")
        if not (isinstance(weight, int | float) and 0 < weight < float("inf")):
            raise ConfigError(f"class_weights: {name}: a weight is a number above 0 (got {weight!r})")
    return [float(setting.get(label, 1.0)) for label in labels]
