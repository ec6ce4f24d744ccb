"""What is watched on validation while training; the evidence itself is the report's business."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from imaging_ft.types import Floats, Ints


@dataclass(frozen=True)
class Score:
    """How logits fare against labels."""

    balanced_accuracy: float
    """Mean sensitivity over the classes that occur."""
    accuracy: float
    loss: float
    """Mean negative log-likelihood (nats)."""

    def beats(self, other: "Score") -> bool:
        """Return whether this is better: by balanced accuracy, then by loss."""
        return (self.balanced_accuracy, -self.loss) > (other.balanced_accuracy, -other.loss)


def score(logits: Floats, labels: Ints) -> Score:
    """Return the score of logits [n, classes] against labels [n]."""
    right = logits.argmax(axis=1) == labels
    sensitivities = [right[labels == label].mean() for label in np.unique(labels)]
    return Score(float(np.mean(sensitivities)), float(right.mean()), negative_log_likelihood(logits, labels))


def negative_log_likelihood(logits: Floats, labels: Ints) -> float:
    """Return the mean negative log-likelihood (nats) of logits [n, classes]."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())
