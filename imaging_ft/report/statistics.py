"""Metrics with honest intervals. Severities of one image are never pooled as more evidence."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from imaging_ft.bundle import Said
from imaging_ft.report.result import Estimate, Evidence
from imaging_ft.types import Floats, Status, Task

UNDEFINED_BELOW = 10
"""A cell with fewer images shows no metric."""
LOW_BELOW = 50
"""A cell with fewer images, or fewer than UNDEFINED_BELOW with or without some class in it, is flagged."""
CONFIDENCE = 0.95


def wilson(right: int, n: int) -> Estimate:
    """Return a proportion with its 95% Wilson score interval (Wilson 1927); `n` must be at least 1."""
    interval = binomtest(right, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(value=right / n, low=float(interval.low), high=float(interval.high), method="wilson")


def mean_of(estimates: Sequence[Estimate], *, correlation: Floats | None = None) -> Estimate:
    """Return the mean of proportions with its 95% interval.

    The intervals are combined by MOVER (Zou & Donner 2008): the distance of the mean's limit from the mean is
    the root of the summed squares of the parts' distances, over their number. Parts that are measured on the same
    images aren't independent: `correlation` [parts, parts] then weighs the products of their distances.
    """
    value = np.array([part.value for part in estimates])
    below = value - np.array([part.low for part in estimates])
    above = np.array([part.high for part in estimates]) - value
    mean, count = float(value.mean()), len(estimates)
    weights = np.eye(count) if correlation is None else correlation

    def distance(parts: Floats) -> float:
        return float(np.sqrt(max(0.0, parts @ weights @ parts))) / count

    return Estimate(
        value=mean, low=max(0.0, mean - distance(below)), high=min(1.0, mean + distance(above)), method="mover"
    )


def evidence(
    truth: Said, predicted: Said, labels: Sequence[str], groups: Sequence[str] | npt.NDArray[np.str_], *, task: Task
) -> Evidence:
    """Return the metrics of what was said of images against what they show, both [n, classes] of 0 and 1.

    An image is right where every class is. A class that doesn't occur has no sensitivity, and balanced accuracy is
    the mean sensitivity over those that do; of a multi-label task it is the mean of (sensitivity + specificity) / 2
    over the classes that some images show and some don't.
    """
    n = len(truth)
    units = len(set(groups))
    if n < UNDEFINED_BELOW:
        return Evidence(n=n, groups=units, status=Status.UNDEFINED, metrics={})
    right = predicted == truth
    metrics = {"accuracy": wilson(int(right.all(axis=1).sum()), n)}
    sensitivities: dict[str, Estimate] = {}
    specificities: dict[str, Estimate] = {}
    few = False
    for index, label in enumerate(labels):
        shown = truth[:, index]
        positives, negatives = int(shown.sum()), int((~shown).sum())
        few = few or 0 < positives < UNDEFINED_BELOW or 0 < negatives < UNDEFINED_BELOW
        if positives:
            sensitivities[f"sensitivity[{label}]"] = wilson(int(right[shown, index].sum()), positives)
        if negatives:
            specificities[f"specificity[{label}]"] = wilson(int(right[~shown, index].sum()), negatives)
    if task is Task.MULTILABEL:
        balanced = _mean_over_labels(truth, right)
    else:
        balanced = mean_of(list(sensitivities.values())) if len(sensitivities) > 1 else None
    if balanced is not None:
        metrics["balanced_accuracy"] = balanced
    metrics.update(sensitivities)
    metrics.update(specificities)
    status = Status.LOW_N if n < LOW_BELOW or few else Status.OK
    return Evidence(n=n, groups=units, status=status, metrics=metrics)


def _mean_over_labels(truth: Said, right: Said) -> Estimate | None:
    """Return the mean of (sensitivity + specificity) / 2 over the labels that have both; None where none has."""
    defined = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    if not len(defined):
        return None
    truth, right = truth[:, defined], right[:, defined]
    # A label's positives and negatives are different images, but all labels are measured on the same ones.
    parts = [
        mean_of([wilson(int(label_right[side].sum()), int(side.sum())) for side in (shown, ~shown)])
        for shown, label_right in zip(truth.T, right.T, strict=True)
    ]
    return mean_of(parts, correlation=_correlation(truth, right))


def _correlation(truth: Said, right: Said) -> Floats:
    """Return how the labels' balanced accuracies vary together [labels, labels], from the images they share.

    Each image moves a label's mean sensitivity or specificity by a little; the correlation is that of these moves.
    Where a label is right, or wrong, on every image nothing is known of it, and 1 is taken, the widest.
    """
    share_shown = (truth & right).sum(axis=0) / truth.sum(axis=0)
    share_absent = (~truth & right).sum(axis=0) / (~truth).sum(axis=0)
    moves = np.where(truth, (right - share_shown) / truth.sum(axis=0), (right - share_absent) / (~truth).sum(axis=0))
    spread = np.sqrt(np.square(moves).sum(axis=0))
    known = spread > 0
    moves[:, known] /= spread[known]
    return np.where(np.outer(known, known), moves.T @ moves, 1.0)
