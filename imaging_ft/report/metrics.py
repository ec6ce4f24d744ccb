"""The evidence of one set of images: every metric with an interval that respects groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imaging_ft.bundle import Said
from imaging_ft.report.calibration import brier, calibration_error, jackknife, spread
from imaging_ft.report.intervals import bounded, correlation, mean_of, proportion, wilson
from imaging_ft.report.ranks import Ranking
from imaging_ft.report.result import Estimate, Evidence
from imaging_ft.report.scored import Doubles, Scored, Units, effective
from imaging_ft.types import Status, Task

UNDEFINED_BELOW = 10
"""A cell with fewer images shows no metric."""
LOW_BELOW = 50
"""A cell with fewer images, or fewer than UNDEFINED_BELOW with or without some class in it, is flagged."""
MIN_GROUPS = 10
"""A cell whose images come from fewer groups is flagged, however many images they are."""


@dataclass(frozen=True)
class Share:
    """A class's sensitivity or specificity."""

    name: str
    estimate: Estimate
    moves: Doubles | None
    """[units]: how each unit moves it; None where no two shares have a unit in common and so don't vary together."""
    present: Said | None
    """[units]: whether it is a share of any of a unit's images."""


def evidence(rows: Scored, labels: Sequence[str], *, task: Task) -> Evidence:
    """Return every metric that the images define.

    An image is right where every class is. A class that doesn't occur has no sensitivity, and balanced accuracy is
    the mean sensitivity over those that do; of a multi-label task it is the mean of (sensitivity + specificity) / 2
    over the classes that some images show and some don't. AUROC and average precision (`auprc`) of a class need
    images with it and without. Every metric but `accuracy_answered` counts rejected images too, by what would be said.
    """
    n, units = len(rows.truth), rows.units
    if n < UNDEFINED_BELOW:
        return Evidence(n=n, groups=units.count, status=Status.UNDEFINED, metrics={})
    shown = rows.truth.sum(axis=0).tolist()
    few = any(0 < count < UNDEFINED_BELOW for positives in shown for count in (positives, n - positives))
    metrics = {"accuracy": accuracy(rows)}
    by_class = shares(rows, labels, task=task)
    metrics.update(balanced(by_class, task=task))
    if (found := macro_f1(rows)) is not None:
        metrics["macro_f1"] = found
    for kind in ("sensitivity", "specificity"):
        metrics.update((share.name, share.estimate) for share in by_class if share.name.startswith(kind))
    areas: dict[str, Estimate] = {}
    precisions: dict[str, Estimate] = {}
    for index, label in enumerate(labels):
        if 0 < shown[index] < n:
            truth = np.ascontiguousarray(rows.truth[:, index])
            ranking = Ranking.of(rows.probabilities[:, index], truth, units)
            areas[f"auroc[{label}]"] = ranking.auroc()
            precisions[f"auprc[{label}]"] = ranking.average_precision()
    metrics.update(areas)
    metrics.update(precisions)
    metrics["brier"] = brier(rows, task=task)
    metrics["ece"] = calibration_error(rows, task=task)
    metrics.update(rejection(rows))
    low = n < LOW_BELOW or few or units.count < MIN_GROUPS
    return Evidence(n=n, groups=units.count, status=Status.LOW_N if low else Status.OK, metrics=metrics)


def accuracy(rows: Scored) -> Estimate:
    """Return the share of images on which every class is right; there must be one image at least."""
    return _share(rows, rows.right)


def rejection(rows: Scored) -> dict[str, Estimate]:
    """Return the share of images that the model's bounds reject, and its accuracy on the others.

    That is left out where so few are answered that no metric of them would be shown.
    """
    if rows.rejected is None:
        return {}
    found = {"rejected": _share(rows, rows.rejected)}
    answered = np.flatnonzero(~rows.rejected)
    if len(answered) >= UNDEFINED_BELOW:
        found["accuracy_answered"] = accuracy(rows.take(answered))
    return found


def _share(rows: Scored, chosen: Said) -> Estimate:
    if rows.units.codes is None:
        return wilson(int(np.count_nonzero(chosen)), len(chosen))
    return proportion(rows.units.counts(chosen), rows.units.sizes)[0]


def shares(rows: Scored, labels: Sequence[str], *, task: Task, units: Units | None = None) -> list[Share]:
    """Return the sensitivity and specificity of each class that has one, by class.

    `units` takes the place of the rows' own where they share units with other rows.
    """
    units = units or rows.units
    # With one class an image, and independent images, no image counts in two sensitivities.
    apart = units.codes is None and task is not Task.MULTILABEL
    found: list[Share] = []
    for index, label in enumerate(labels):
        truth, said = (np.ascontiguousarray(part[:, index]) for part in (rows.truth, rows.said))
        positives = int(np.count_nonzero(truth))
        negatives = len(truth) - positives
        if apart:
            hits = int(np.count_nonzero(truth & said))
            rejected = negatives - (int(np.count_nonzero(said)) - hits)
            if positives:
                found.append(Share(f"sensitivity[{label}]", wilson(hits, positives), None, None))
            if negatives:
                found.append(Share(f"specificity[{label}]", wilson(rejected, negatives), None, None))
            continue
        sizes = units.counts(truth)
        rest = units.sizes - sizes
        if positives:
            found.append(Share(f"sensitivity[{label}]", *proportion(units.counts(truth & said), sizes), sizes > 0))
        if negatives:
            rejected = rest - units.counts(said & ~truth)
            found.append(Share(f"specificity[{label}]", *proportion(rejected, rest), rest > 0))
    return found


def balanced(by_class: Sequence[Share], *, task: Task) -> dict[str, Estimate]:
    """Return `balanced_accuracy` from the classes' shares; nothing where fewer than two classes or no label has it."""
    parts = balanced_parts(by_class, task=task)
    if not parts:
        return {}
    return {"balanced_accuracy": mean_of([part.estimate for part in parts], correlation=together(parts))}


def balanced_parts(by_class: Sequence[Share], *, task: Task) -> list[Share]:
    """Return the shares whose mean is the balanced accuracy; none where it isn't defined."""
    if task is not Task.MULTILABEL:
        parts = [share for share in by_class if share.name.startswith("sensitivity")]
        return parts if len(parts) > 1 else []
    names = [share.name.partition("[")[2] for share in by_class]
    return [share for share, name in zip(by_class, names, strict=True) if names.count(name) == 2]


def together(parts: Sequence[Share]) -> Doubles | None:
    """Return how the shares vary together [parts, parts], or None where they don't."""
    moves = [part.moves for part in parts if part.moves is not None]
    return correlation(moves, [part.present for part in parts if part.present is not None]) if moves else None


def macro_f1(rows: Scored) -> Estimate | None:
    """Return the mean F1 over the classes that are shown or said, by the delta method (Takahashi et al. 2022)."""
    moves = np.zeros(len(rows.truth))
    scores: list[float] = []
    inverse: list[float] = []
    for column in range(rows.truth.shape[1]):
        truth, said = (np.ascontiguousarray(part[:, column]) for part in (rows.truth, rows.said))
        both, either = int(np.count_nonzero(truth & said)), int(np.count_nonzero(truth) + np.count_nonzero(said))
        if not either:
            continue
        scores.append(2 * both / either)
        inverse.append(1 / (_weight(rows.units, truth | said)))
        # By truth + 2 said: an image moves F = 2 both / either by (2 [both] - F [either]) / either.
        table = np.array([0, -scores[-1], -scores[-1], 2 - 2 * scores[-1]]) / either
        moves += table[truth.view(np.int8) + 2 * said.view(np.int8)]
    if not scores:
        return None
    # All right: as sure as a share among as many units as the classes have, in the harmonic mean.
    units = len(scores) / sum(inverse)
    return bounded(float(np.mean(scores)), spread(rows, moves / len(scores), units=units), method=jackknife(rows))


def _weight(units: Units, chosen: Said) -> float:
    """Return how many units of equal size would weigh as the `chosen` rows [n] do; there is one at least."""
    return float(np.count_nonzero(chosen)) if units.codes is None else effective(units.counts(chosen))
