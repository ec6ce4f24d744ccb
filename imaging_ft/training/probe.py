"""The linear probe: a head on features of the frozen backbone, where fine-tuning starts (LP-FT, Kumar et al. 2022)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.preprocessing import StandardScaler

from imaging_ft.models.factory import Classifier
from imaging_ft.models.scores import fit_logistic
from imaging_ft.training.calibrate import fit_temperature
from imaging_ft.training.judge import Judged
from imaging_ft.types import Floats, Ints, Task

Doubles = npt.NDArray[np.float64]

STRENGTHS = (0.0001, 0.001, 0.01, 0.1)
"""Inverse regularisation strengths that are tried."""

FLOOR = 0.1
"""Least scale of a feature, as a share of the scales' root mean square.

Features that hardly vary would otherwise get weights in the tens, and one step of fine-tuning would move logits by
as much.
"""


@dataclass(frozen=True)
class Probe:
    """A linear head and what it is worth on validation."""

    weight: Floats
    """[classes, features]."""
    bias: Floats
    """[classes]."""
    strength: float
    judged: Judged

    def install(self, model: Classifier) -> None:
        """Make this the model's head."""
        with torch.no_grad():
            model.head.weight.copy_(torch.from_numpy(self.weight))
            model.head.bias.copy_(torch.from_numpy(self.bias))


def fit_probe(
    features: Floats,
    targets: Floats,
    val_features: Floats,
    val_targets: Floats,
    judge: Callable[[Floats], Judged],
    *,
    task: Task = Task.MULTICLASS,
    metric: str = "balanced_accuracy",
) -> Probe:
    """Return the logistic regression on standardised features that validates best.

    `features` [n, features] and `targets` [n, classes] are training's; `judge` scores the logits of `val_features`.
    Classes weigh the same whatever their counts; the standardisation is folded into the head. For a multi-label task,
    one regression a label.
    """
    scaler: Any = StandardScaler().fit(features)
    scale = np.maximum(scaler.scale_, FLOOR * float(np.sqrt(np.square(scaler.scale_).mean())) + 1e-6)
    standard, val_standard = (features - scaler.mean_) / scale, (val_features - scaler.mean_) / scale
    best: Probe | None = None
    for strength in STRENGTHS:
        weight, bias = _regress(standard, targets, strength, task)
        # A head that is too sure of itself starts fine-tuning with a loss that tears the backbone apart.
        temperature = fit_temperature(val_standard @ weight.T + bias, val_targets, task=task).temperature
        weight, bias = weight / temperature, bias / temperature
        folded = weight / scale
        judged = judge(val_standard @ weight.T + bias)
        if best is None or judged.beats(best.judged, metric):
            best = Probe(folded, bias - folded @ scaler.mean_, strength, judged)
    if best is None:
        raise RuntimeError("no probe was fitted")
    return best


def _regress(features: Floats, targets: Floats, strength: float, task: Task) -> tuple[Doubles, Doubles]:
    """Return weight [classes, features] and bias [classes]."""
    if task is not Task.MULTILABEL:
        weight, bias = _logistic(features, targets.argmax(axis=1), strength)
        if targets.shape[1] == 2:  # scikit-learn keeps one row for two classes
            return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return weight, bias
    rows = [_one_label(features, targets[:, index] > 0.5, strength) for index in range(targets.shape[1])]
    return np.concatenate([weight for weight, _ in rows]), np.concatenate([bias for _, bias in rows])


def _one_label(features: Floats, present: Any, strength: float) -> tuple[Doubles, Doubles]:
    if present.all() or not present.any():  # nothing to tell apart: the prior alone
        return np.zeros((1, features.shape[1])), np.array([4.0 if present.all() else -4.0])
    return _logistic(features, present.astype(np.int64), strength)


def _logistic(features: Floats, labels: Ints, strength: float) -> tuple[Doubles, Doubles]:
    regression = fit_logistic(features, labels, strength=strength, iterations=300)
    return np.asarray(regression.coef_, np.float64), np.asarray(regression.intercept_, np.float64)
