"""Metrics with honest intervals. Severities of one image are never pooled as more evidence."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from imaging_ft.report.result import Estimate, Evidence
from imaging_ft.types import Ints, Status

UNDEFINED_BELOW = 10
"""A cell with fewer images shows no metric."""
LOW_BELOW = 50
"""A cell with fewer images, or fewer than UNDEFINED_BELOW of some class in it, is flagged."""
CONFIDENCE = 0.95


def wilson(right: int, n: int) -> Estimate:
    """Return a proportion with its 95% Wilson score interval (Wilson 1927); `n` must be at least 1."""
    interval = binomtest(right, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(value=right / n, low=float(interval.low), high=float(interval.high), method="wilson")


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of independent proportions with its 95% interval.

    The intervals are combined by MOVER (Zou & Donner 2008): the distance of the mean's limit from the mean is
    the root of the summed squares of the parts' distances, over their number.
    """
    value = np.array([part.value for part in estimates])
    below = value - np.array([part.low for part in estimates])
    above = np.array([part.high for part in estimates]) - value
    mean, count = float(value.mean()), len(estimates)
    return Estimate(
        value=mean,
        low=max(0.0, mean - float(np.sqrt(np.square(below).sum())) / count),
        high=min(1.0, mean + float(np.sqrt(np.square(above).sum())) / count),
        method="mover",
    )


def evidence(
    truth: Ints, predicted: Ints, labels: Sequence[str], groups: Sequence[str] | npt.NDArray[np.str_]
) -> Evidence:
    """Return the metrics of predicted against true classes [n], indices into `labels`.

    A class that doesn't occur has no sensitivity, and balanced accuracy is the mean over those that do.
    """
    n = len(truth)
    units = len(set(groups))
    if n < UNDEFINED_BELOW:
        return Evidence(n=n, groups=units, status=Status.UNDEFINED, metrics={})
    right = predicted == truth
    metrics = {"accuracy": wilson(int(right.sum()), n)}
    sensitivities: dict[str, Estimate] = {}
    specificities: dict[str, Estimate] = {}
    few = False
    for index, label in enumerate(labels):
        of_class = truth == index
        positives, negatives = int(of_class.sum()), int((~of_class).sum())
        few = few or 0 < positives < UNDEFINED_BELOW
        if positives:
            sensitivities[f"sensitivity[{label}]"] = wilson(int((right & of_class).sum()), positives)
        if negatives:
            cleared = int(((predicted != index) & ~of_class).sum())
            specificities[f"specificity[{label}]"] = wilson(cleared, negatives)
    if len(sensitivities) > 1:
        metrics["balanced_accuracy"] = mean_of(list(sensitivities.values()))
    metrics.update(sensitivities)
    metrics.update(specificities)
    status = Status.LOW_N if n < LOW_BELOW or few else Status.OK
    return Evidence(n=n, groups=units, status=status, metrics=metrics)
