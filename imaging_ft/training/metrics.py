"""What is watched on validation while training; the evidence itself is the report's business."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax
from scipy.stats import rankdata

from imaging_ft.types import Floats, Json, Task


@dataclass(frozen=True)
class Score:
    """How logits fare against targets."""

    balanced_accuracy: float
    """Mean sensitivity over the classes that occur; multi-label: mean of sensitivity and specificity, over labels."""
    accuracy: float
    """Share of images that are right; multi-label: in every label."""
    loss: float
    """Mean negative log-likelihood (nats); multi-label: mean over the labels."""
    macro_f1: float = math.nan
    """Mean F1 over the classes that occur."""
    auroc: float = math.nan
    """Mean one-against-rest AUROC over the classes that have positives and negatives; NaN where none has."""

    def value(self, metric: str) -> float:
        """Return what is to be large: a metric by name, or the negative loss. NaN counts as the worst.

        Rounded, so that scores tie that differ by the order of a sum alone.
        """
        found = -self.loss if metric == "loss" else float(getattr(self, metric))
        return -math.inf if math.isnan(found) else round(found, 9)

    def beats(self, other: "Score", metric: str = "balanced_accuracy") -> bool:
        """Return whether this is better: by a metric, then by loss."""
        return (self.value(metric), -self.loss) > (other.value(metric), -other.loss)

    def as_json(self) -> Json:
        """Return the score by name; what is undefined is null."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Json) -> "Score":
        """Return the score that `as_json` gave."""
        return cls(**{name: math.nan if value is None else float(value) for name, value in values.items()})


def score(logits: Floats, targets: Floats, *, task: Task = Task.MULTICLASS) -> Score:
    """Return the score of logits [n, classes] against targets [n, classes], one-hot or (multi-label) multi-hot."""
    truth = np.asarray(targets) > 0.5
    largest = np.eye(truth.shape[1], dtype=bool)[logits.argmax(axis=1)]
    predicted = logits >= 0 if task is Task.MULTILABEL else largest
    sensitivity = _share(predicted & truth, truth)
    balanced = sensitivity
    if task is Task.MULTILABEL:
        balanced = (sensitivity + _share(~predicted & ~truth, ~truth)) / 2
    f1 = _share(2 * (predicted & truth).astype(np.int64), predicted.astype(np.int64) + truth)
    occurs = truth.any(axis=0)
    return Score(
        balanced_accuracy=float(np.nanmean(balanced)) if not np.isnan(balanced).all() else math.nan,
        accuracy=float((predicted == truth).all(axis=1).mean()),
        loss=negative_log_likelihood(logits, targets, task=task),
        macro_f1=float(np.mean(f1[occurs])) if occurs.any() else math.nan,
        auroc=_auroc(logits, truth, task),
    )


def decides(targets: Floats, *, task: Task = Task.MULTICLASS) -> bool:
    """Return whether balanced accuracy is defined on targets [n, classes]: multi-label, some class is on both sides."""
    truth = np.asarray(targets) > 0.5
    if task is not Task.MULTILABEL:
        return len(truth) > 0
    return bool((truth.any(axis=0) & ~truth.all(axis=0)).any())


def mean_score(scores: Sequence[Score]) -> Score:
    """Return the mean of scores, metric by metric, over those in which it is defined."""
    found = {field.name: [getattr(score, field.name) for score in scores] for field in fields(Score)}
    return Score(**{name: _nanmean(values) for name, values in found.items()})


def negative_log_likelihood(logits: Floats, targets: Floats, *, task: Task = Task.MULTICLASS) -> float:
    """Return the mean negative log-likelihood (nats) of logits [n, classes] against targets of the same shape."""
    if task is Task.MULTILABEL:
        return float(np.mean(np.logaddexp(0, logits) - logits * targets))
    return float(-(log_softmax(logits, axis=1) * targets).sum(axis=1).mean())


def _share(part: npt.NDArray[np.bool_] | npt.NDArray[np.int64], whole: npt.NDArray[np.bool_] | npt.NDArray[np.int64]):
    """Return the share by class [classes]; NaN where the class doesn't occur."""
    total = whole.sum(axis=0).astype(np.float64)
    return np.divide(part.sum(axis=0), total, out=np.full(total.shape, np.nan), where=total > 0)


def _auroc(logits: Floats, truth: npt.NDArray[np.bool_], task: Task) -> float:
    scores = logits if task is Task.MULTILABEL else log_softmax(logits, axis=1)
    if not np.isfinite(scores).all():
        return math.nan
    positives = truth.sum(axis=0)
    pairs = positives * (len(truth) - positives)
    # Mann-Whitney: the share of pairs in which the positive ranks higher; ties share a rank, and count half.
    above = (rankdata(scores, axis=0) * truth).sum(axis=0) - positives * (positives + 1) / 2
    return float(np.mean(above[pairs > 0] / pairs[pairs > 0])) if pairs.any() else math.nan


def _nanmean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
