"""Likely label errors: a cross-validated linear probe, and confident learning on what it says.

Confident learning: Northcutt, Jiang & Chuang, Journal of Artificial Intelligence Research 70 (2021), what the
`cleanlab` package does; forty lines here spare its pandas.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from imaging_ft.models.scores import fit_logistic
from imaging_ft.types import Floats, Ints, Track

FOLDS = 5
STRENGTH = 0.003
"""Inverse regularisation strength of the probe on standardised features."""
MOST_FEATURES = 512
"""Principal components that the probe sees."""
RELIABLE = 0.7
"""Balanced accuracy from which the strictest folds are good enough."""
TRUSTED = 0.65
"""Below this balanced accuracy the probe says nothing about labels."""


@dataclass(frozen=True)
class Doubts:
    """How far each of n labels is doubted."""

    score: npt.NDArray[np.float64]
    """[n]: 0 (sure of the label) to 1 (sure of another): half of 1 + p(best other) − p(given)."""
    suggested: Ints
    """[n]: the class that the probe is confident of where it isn't the given one, else −1."""

    @property
    def likely(self) -> Ints:
        """The images whose label is likely wrong, the most doubted first."""
        found = np.flatnonzero(self.suggested >= 0)
        return found[np.argsort(-self.score[found], kind="stable")]


def confident_joint(labels: Ints, probabilities: Floats) -> tuple[Ints, Ints]:
    """Return how often label i [rows] is confidently class j [columns], and each image's confident class or −1.

    An image counts as class j where its probability of j is at least the mean probability of j over the images
    labelled j (the class's threshold), and is the largest among the classes of which that is true.
    """
    classes = probabilities.shape[1]
    present = np.bincount(labels, minlength=classes) > 0
    threshold = np.array(
        [probabilities[labels == index, index].mean() if present[index] else np.inf for index in range(classes)]
    )
    above = probabilities >= threshold - 1e-6
    confident = np.where(above.any(axis=1), np.where(above, probabilities, -1.0).argmax(axis=1), -1)
    joint = np.zeros((classes, classes), np.int64)
    np.add.at(joint, (labels[confident >= 0], confident[confident >= 0]), 1)
    return joint, confident


def doubts(labels: Ints, probabilities: Floats) -> Doubts:
    """Return how far each label [n] is doubted, from out-of-fold probabilities [n, classes]."""
    rows = np.arange(len(labels))
    given = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1
    score = (1 + others.max(axis=1) - given) / 2
    _, confident = confident_joint(labels, probabilities)
    best = probabilities.argmax(axis=1)
    # Both must say so: the class's own threshold, and the plain comparison with the label that was given.
    wrong = (confident >= 0) & (confident != labels) & (best != labels)
    return Doubts(score, np.where(wrong, confident, -1))


def components(features: Floats) -> npt.NDArray[np.float64]:
    """Return standardised features [n, d] turned to their principal components, at most MOST_FEATURES of them."""
    values = np.asarray(features, np.float64)
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-6)
    _, vectors = np.linalg.eigh(values.T @ values)  # ascending
    return values @ vectors[:, ::-1][:, :MOST_FEATURES]


def folds(targets: Ints, unit: Ints, *, seed: int) -> list[tuple[Ints, Ints]]:
    """Return train and held-out positions of each fold; images of one unit stand on the same side.

    Nothing is returned where a fold would leave some class out of what is learned (a series that holds all
    images of a class): every image of that class would look mislabelled.
    """
    count = min(FOLDS, len(np.unique(unit)), int(np.bincount(targets).max()))
    if count < 2:
        return []
    splitter = StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class smaller than the number of folds: judged below
        parts = list(splitter.split(targets, targets, unit))
    classes = set(np.unique(targets).tolist())
    return parts if all(set(targets[kept].tolist()) == classes for kept, _ in parts) else []


def out_of_fold(
    values: Floats, targets: Ints, parts: Sequence[tuple[Ints, Ints]], *, classes: int, track: Track
) -> npt.NDArray[np.float64]:
    """Return probabilities [n, classes], each by a probe that didn't see the image; classes weigh the same."""
    found = np.zeros((len(targets), classes))
    for kept, held in track(parts, "cross-validating labels", len(parts)):
        probe = fit_logistic(values[kept], targets[kept], strength=STRENGTH, iterations=200)
        found[np.ix_(held, probe.classes_)] = probe.predict_proba(values[held])
    return found


def balanced_accuracy(targets: Ints, predicted: Ints) -> float:
    """Return the mean over the classes that occur of the share that was found."""
    return float(np.mean([(predicted[targets == index] == index).mean() for index in np.unique(targets)]))


@dataclass(frozen=True)
class Probed:
    """What a cross-validated probe says about labels."""

    probabilities: npt.NDArray[np.float64]
    """[n, classes], out of fold."""
    balanced_accuracy: float
    unit: str
    """What was held together between the folds."""


def probe_labels(
    features: Floats, targets: Ints, units: dict[str, Ints], *, classes: int, seed: int, track: Track
) -> Probed | None:
    """Return out-of-fold probabilities of each class for features [n, d]; None where no folds can be made.

    `units` names ways to hold images together, the strictest first. The first is taken at which the probe is
    RELIABLE; else the one at which it is best. A few series that look unlike each other, held out one by one,
    would let every label look wrong.
    """
    values = components(features)
    best: Probed | None = None
    for name, unit in units.items():
        parts = folds(targets, unit, seed=seed)
        if not parts:
            continue
        found = out_of_fold(values, targets, parts, classes=classes, track=track)
        probed = Probed(found, balanced_accuracy(targets, found.argmax(axis=1)), name)
        if best is None or probed.balanced_accuracy > best.balanced_accuracy:
            best = probed
        if best.balanced_accuracy >= RELIABLE:
            break
    return best


def probe_multilabel(features: Floats, shown: Floats, unit: Ints, *, seed: int, track: Track) -> Doubts | None:
    """Return doubts about a multi-label task's labels [n, classes] (0 or 1), a probe for each class.

    `suggested` is the class whose presence is doubted most; an image counts once.
    """
    values = components(features)
    score = np.zeros(len(shown))
    suggested = np.full(len(shown), -1)
    judged = False
    for index in range(shown.shape[1]):
        present = shown[:, index].astype(np.int64)
        parts = folds(present, unit, seed=seed) if 0 < present.sum() < len(present) else []
        if not parts:
            continue
        found = out_of_fold(values, present, parts, classes=2, track=track)
        if balanced_accuracy(present, found.argmax(axis=1)) < TRUSTED:
            continue
        judged = True
        doubt = doubts(present, found)
        better = (doubt.suggested >= 0) & ((suggested < 0) | (doubt.score > score))
        suggested[better] = index
        score = np.maximum(score, doubt.score)
    return Doubts(score, suggested) if judged else None
