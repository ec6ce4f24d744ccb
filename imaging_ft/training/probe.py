"""The linear probe: a head on features of the frozen backbone, where fine-tuning starts (LP-FT, Kumar et al. 2022)."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from imaging_ft.models.factory import Classifier
from imaging_ft.training.calibrate import fit_temperature
from imaging_ft.training.engine import Engine
from imaging_ft.training.images import Batch
from imaging_ft.training.metrics import Score, score
from imaging_ft.types import Floats, Ints

STRENGTHS = (0.0001, 0.001, 0.01, 0.1)
"""Inverse regularisation strengths that are tried."""


@dataclass(frozen=True)
class Probe:
    """A linear head and how it validates."""

    weight: Floats
    """[classes, features]."""
    bias: Floats
    """[classes]."""
    strength: float
    score: Score

    def install(self, model: Classifier) -> None:
        """Make this the model's head."""
        with torch.no_grad():
            model.head.weight.copy_(torch.from_numpy(self.weight))
            model.head.bias.copy_(torch.from_numpy(self.bias))


def fit_probe(
    engine: Engine, model: Classifier, train: Iterable[Batch], val: Iterable[Batch], *, classes: int
) -> Probe:
    """Return the logistic regression on standardised features that validates best.

    Classes weigh the same whatever their counts; the standardisation is folded into the head.
    """
    features, labels = engine.predict(model, train, features=True)
    val_features, val_labels = engine.predict(model, val, features=True)
    scaler: Any = StandardScaler().fit(features)
    scale = np.maximum(scaler.scale_, 1e-6)
    best: Probe | None = None
    for strength in STRENGTHS:
        weight, bias = _regress((features - scaler.mean_) / scale, labels, strength, classes)
        # A head that is too sure of itself starts fine-tuning with a loss that tears the backbone apart.
        temperature = fit_temperature((val_features - scaler.mean_) / scale @ weight.T + bias, val_labels).temperature
        weight, bias = weight / temperature, bias / temperature
        folded = weight / scale
        probe = Probe(
            folded,
            bias - folded @ scaler.mean_,
            strength,
            score((val_features - scaler.mean_) / scale @ weight.T + bias, val_labels),
        )
        if best is None or probe.score.beats(best.score):
            best = probe
    if best is None:
        raise RuntimeError("no probe was fitted")
    return best


def _regress(features: Floats, labels: Ints, strength: float, classes: int) -> tuple[Floats, Floats]:
    """Return weight [classes, features] and bias [classes]."""
    regression: Any = LogisticRegression(C=strength, class_weight="balanced", max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fine-tuning goes on from here in any case
        regression.fit(features, labels)
    weight, bias = regression.coef_, regression.intercept_
    if classes == 2:  # scikit-learn keeps one row for two classes
        return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias
