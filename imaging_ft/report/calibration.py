"""Whether probabilities mean what they say: Brier score, calibration error, reliability, risk over coverage."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import digamma

from imaging_ft.bundle import Said
from imaging_ft.report.intervals import Spread, bounded, proportion, quantile
from imaging_ft.report.ranks import COARSE, EXACT_UP_TO, coarse, levels
from imaging_ft.report.result import Bin, Detail, Estimate, Method
from imaging_ft.report.scored import Doubles, Scored
from imaging_ft.types import Floats, Task

BINS = 15
"""Of the calibration error and the reliability diagram, each of about as many probabilities."""
POINTS = 50
"""Of the risk–coverage curve."""


def brier(rows: Scored, *, task: Task) -> Estimate:
    """Return the Brier score (Brier 1950): the mean over images of the summed squared error over the classes.

    It lies in [0, 2] with one class an image, and in [0, classes] in a multi-label task.
    """
    errors = np.zeros(len(rows.truth))
    for column in range(rows.truth.shape[1]):
        errors += np.square(rows.probabilities[:, column] - rows.truth[:, column])
    value, top = float(errors.mean()), rows.truth.shape[1] if task is Task.MULTILABEL else 2
    errors -= value
    errors /= len(errors)
    return bounded(value, spread(rows, errors), top=top, method=jackknife(rows))


def calibration_error(rows: Scored, *, task: Task) -> Estimate:
    """Return the expected calibration error: the mean gap between confidence and accuracy over BINS equal-mass bins.

    Of the probability of what is said; in a multi-label task of every label's probability. A gap counts without its
    sign, so that chance alone makes the error larger than 0: the estimate is biased upwards. The interval is that of
    the signed gaps, their signs and the bins held; its lower limit is lowered further by the largest bias that chance
    can make, which is that of a perfectly calibrated model.
    """
    confidences, hits = _claims(rows, task)
    bins = _equal_mass(confidences)
    total = len(rows.truth) * len(hits)
    gaps, squares = np.zeros(BINS), np.zeros(BINS)
    counts = np.zeros(BINS)
    for confidence, hit, at in zip(confidences, hits, bins, strict=True):
        off = hit - confidence.astype(np.float64)
        counts += np.bincount(at, minlength=BINS)
        gaps += np.bincount(at, off, minlength=BINS)
        squares += np.bincount(at, np.square(off), minlength=BINS)
    value = float(np.abs(gaps).sum()) / total
    sign = np.where(gaps < 0, -1.0, 1.0)
    moves = np.zeros(len(rows.truth))
    for confidence, hit, at in zip(confidences, hits, bins, strict=True):
        moves += sign[at] * (hit - confidence)
    moves = (moves / len(hits) - value) / len(moves)
    found = spread(rows, moves)
    by_bin = np.maximum(squares - gaps**2 / np.maximum(counts, 1), 0) / total**2
    together = found.variance / by_bin.sum() if by_bin.sum() > 0 else 1.0
    bias = float(np.sqrt(2 / np.pi * max(together, 1.0) * by_bin).sum())
    q = quantile(found.df)
    # Where every claim is sure and right nothing varies; Wilson's limit for none wrong is then taken.
    half = q * np.sqrt(found.variance) if found.variance > 0 else q * q / (found.units + q * q)
    half = half if np.isfinite(half) else 1.0
    return Estimate(value=value, low=max(0.0, value - bias - half), high=min(1.0, value + half), method=jackknife(rows))


def detail(rows: Scored, labels: Sequence[str], *, task: Task, conditions: dict[str, int | str]) -> Detail:
    """Return the confusion matrix, the reliability diagram and the risk–coverage curve of at least one image."""
    errors, mean = _risk(rows.confidence(task), rows.right)
    return Detail(
        conditions=conditions,
        confusion=None if task is Task.MULTILABEL else _confusion(rows, len(labels)),
        reliability=_reliability(rows, task),
        risk_coverage=errors,
        aurc=mean,
    )


def spread(rows: Scored, moves: Doubles, *, units: float | None = None) -> Spread:
    """Return how a metric varies, from what each image moves it by [n]; `units` where it rests on fewer than all."""
    known = rows.units
    df = None if known.codes is None else known.weight - 1
    return Spread.of(known.sums(moves), units=units or known.weight, df=df)


def jackknife(rows: Scored) -> Method:
    """Return the name of the method of a metric whose moves are summed by group."""
    return "jackknife" if rows.units.codes is None else "jackknife_by_group"


def _claims(rows: Scored, task: Task) -> tuple[list[Floats], list[Said]]:
    """Return the probabilities that are claimed and whether each claim holds: [n] each, one a class if multi-label."""
    if task is not Task.MULTILABEL:
        return [rows.confidence(task)], [rows.right]
    columns = range(rows.truth.shape[1])
    return [rows.probabilities[:, column] for column in columns], [rows.truth[:, column] for column in columns]


def _equal_mass(confidences: list[Floats]) -> list[npt.NDArray[np.uint8]]:
    """Return the bin of each probability, [n] for each of `confidences`: by its midrank, so that equal ones share one.

    Above EXACT_UP_TO probabilities the bins' edges lie on COARSE levels; the sums within them stay exact.
    """
    total = sum(len(confidence) for confidence in confidences)
    if total <= EXACT_UP_TO:
        found = levels(np.concatenate([np.asarray(confidence, np.float64) for confidence in confidences]))
        masses, of = np.bincount(found.of, minlength=found.count), iter(np.split(found.of, len(confidences)))
    else:
        masses = np.sum([np.bincount(coarse(confidence), minlength=COARSE) for confidence in confidences], axis=0)
        of = (coarse(confidence) for confidence in confidences)
    middle = np.cumsum(masses) - masses / 2
    bin_of = np.minimum(middle * BINS / total, BINS - 1).astype(np.uint8)
    return [bin_of[at] for at in of]


def _reliability(rows: Scored, task: Task) -> list[Bin]:
    confidences, hits = _claims(rows, task)
    bins = _equal_mass(confidences)
    found: list[Bin] = []
    for index in range(BINS):
        sizes, right = np.zeros(rows.units.count), np.zeros(rows.units.count)
        sure = 0.0
        for confidence, hit, at in zip(confidences, hits, bins, strict=True):
            here = at == index
            sizes += rows.units.counts(here)
            right += rows.units.counts(here & hit)
            sure += float(confidence[here].sum(dtype=np.float64))
        if n := int(sizes.sum()):
            found.append(Bin(n=n, confidence=sure / n, accuracy=proportion(right, sizes)[0]))
    return found


def _confusion(rows: Scored, classes: int) -> list[list[int]]:
    table: list[list[int]] = []
    for shown in range(classes):
        said = rows.said[rows.truth[:, shown]]
        table.append([int(count) for count in said.sum(axis=0)])
    return table


def _risk(confidence: Floats, right: Said) -> tuple[list[tuple[float, float]], float]:
    """Return at most POINTS of the risk–coverage curve, and its area: the risk averaged over every coverage.

    Among images of one confidence the order is open: their errors are spread evenly over it.
    """
    found = levels(confidence)
    sizes = np.bincount(found.of, minlength=found.count)[::-1].astype(np.float64)
    wrong = np.bincount(found.of[~right], minlength=found.count)[::-1].astype(np.float64)
    sizes, wrong = sizes[sizes > 0], wrong[sizes > 0]
    answered, errors = np.cumsum(sizes), np.cumsum(wrong)
    n = answered[-1]
    rate = wrong / sizes
    # The sum over a block of (E + rate j) / (N + j), j from 1 to its size, with E and N from before it.
    before, missed = answered - sizes, errors - wrong
    harmonic = digamma(answered + 1) - digamma(before + 1)
    area = float((wrong + (missed - rate * before) * harmonic).sum() / n)
    counts = np.unique(np.ceil(np.arange(1, POINTS + 1) * n / POINTS))
    at = np.interp(counts, np.concatenate([[0], answered]), np.concatenate([[0], errors]))
    return [(float(count / n), float(error / count)) for count, error in zip(counts, at, strict=True)], area
