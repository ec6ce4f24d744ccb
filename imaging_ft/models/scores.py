"""How well frozen features fit labels, without training a network: linear probe, LogME, nearest neighbours.

Every score takes features [n, features] and targets [n, classes], one-hot or (of a multi-label task) multi-hot.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from imaging_ft.types import Floats, Ints

STRENGTH = 0.01
"""Inverse regularisation strength of the probe, on standardised features: the same for every model."""
NEIGHBOURS = 5
_ITERATIONS = 100
_TOLERANCE = 1e-5


def standardised(features: Floats, reference: Floats | None = None) -> Floats:
    """Return features with the reference's mean 0 and standard deviation 1, in float32; constant ones become 0."""
    known = features if reference is None else reference
    mean, std = known.mean(axis=0, dtype=np.float64), known.std(axis=0, dtype=np.float64)
    return ((features - mean) / np.where(std > 1e-6 * max(float(std.max()), 1e-30), std, np.inf)).astype(np.float32)


def probe_folds(features: Floats, targets: Floats, folds: Ints, *, multilabel: bool) -> Floats:
    """Return the balanced accuracy of a linear probe on each fold, trained on the others: [folds].

    `folds` [n] says which fold an image is in. Classes weigh the same whatever their counts.
    """
    scores: list[float] = []
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        train = standardised(features[~held])
        test = standardised(features[held], features[~held])
        predicted = _probe(train, targets[~held], test, multilabel=multilabel)
        scores.append(balanced_accuracy(targets[held], predicted, multilabel=multilabel))
    return np.array(scores)


def _probe(train: Floats, targets: Floats, test: Floats, *, multilabel: bool) -> Floats:
    """Return predicted targets [tests, classes] of logistic regression; of a multi-label task, label by label."""
    if not multilabel:
        return np.eye(targets.shape[1])[_regress(train, targets.argmax(axis=1), test)]
    columns = [
        _regress(train, column, test) if len(set(column)) > 1 else np.full(len(test), column[0])
        for column in targets.astype(np.int64).T
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _regress(train: Floats, labels: Ints, test: Floats) -> Ints:
    return fit_logistic(train, labels, strength=STRENGTH, iterations=_ITERATIONS, tolerance=1e-3).predict(test)


def fit_logistic(features: Floats, labels: Ints, *, strength: float, iterations: int, tolerance: float = 1e-4) -> Any:
    """Return scikit-learn's logistic regression of labels [n] on features [n, features]; classes weigh the same.

    `strength` is the inverse of the regularisation's. It stops after `iterations` without a word: what it hasn't found
    by then is no use to a probe.
    """
    regression: Any = LogisticRegression(C=strength, class_weight="balanced", max_iter=iterations, tol=tolerance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return regression.fit(features, labels)


def balanced_accuracy(targets: Floats, predicted: Floats, *, multilabel: bool) -> float:
    """Return the mean of the classes' sensitivities; of a multi-label task, of the labels' balanced accuracies.

    A class that no image shows is left out; of a multi-label task, a label that all or none show.
    """
    truth, said = targets > 0.5, predicted > 0.5
    with np.errstate(invalid="ignore"):
        sensitivity = (truth & said).sum(axis=0) / truth.sum(axis=0)
        specificity = (~truth & ~said).sum(axis=0) / (~truth).sum(axis=0)
    found = (sensitivity + specificity) / 2 if multilabel else sensitivity
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else float("nan")


def nearest_neighbours(features: Floats, targets: Floats, units: Sequence[str], *, multilabel: bool) -> float:
    """Return the balanced accuracy of a vote of the 5 nearest images (cosine) outside an image's own group.

    A class' votes are weighed by its similarity; of a multi-label task a label is shown where more than half of
    the votes show it.
    """
    scaled = standardised(features)
    scaled /= np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    _, unit = np.unique(np.array(units), return_inverse=True)
    votes = np.empty(targets.shape)
    for start in range(0, len(scaled), 1024):  # a block of rows at a time: n² similarities may not fit in memory
        rows = slice(start, start + 1024)
        similarity = scaled[rows] @ scaled.T
        similarity[unit[rows, np.newaxis] == unit] = -np.inf
        count = min(NEIGHBOURS, similarity.shape[1] - 1)
        nearest = np.argpartition(-similarity, count, axis=1)[:, :count]
        weight = np.take_along_axis(similarity, nearest, axis=1)
        weight = np.where(np.isfinite(weight), weight + 1, 0)  # cosines are at least −1
        votes[rows] = np.einsum("ij,ijk->ik", weight, targets[nearest])
        votes[rows] /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    predicted = votes if multilabel else np.eye(targets.shape[1])[votes.argmax(axis=1)]
    return balanced_accuracy(targets, predicted, multilabel=multilabel)


def log_me(features: Floats, targets: Floats) -> float:
    """Return LogME: the mean over classes of the log evidence per image of Bayesian linear regression.

    The targets are regressed on the features under a Gaussian prior of precision α and Gaussian noise of
    precision β, both set to where the evidence is largest. Higher is better; only differences mean something.
    You, Liu, Wang, Long: LogME: Practical Assessment of Pre-trained Models for Transfer Learning, ICML 2021.
    """
    values, known = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    squares, inside = decomposed(values, known)
    return float(
        np.mean([evidence(squares, z, float(y @ y), values.shape) for z, y in zip(inside.T, known.T, strict=True)])
    )


def decomposed(features: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Return the squared singular values [r] of features [n, features], and Uᵀ targets [r, classes].

    U are the left singular vectors. By way of the smaller Gram matrix, several times faster than an SVD; values
    below what that resolves are left out.
    """
    wide = features.shape[1] > features.shape[0]
    squares, vectors = np.linalg.eigh(features @ features.T if wide else features.T @ features)
    kept = squares > squares.max() * max(features.shape) * np.finfo(np.float64).eps
    squares, vectors = squares[kept], vectors[:, kept]
    if wide:
        return squares, vectors.T @ targets
    return squares, (vectors.T @ (features.T @ targets)) / np.sqrt(squares)[:, np.newaxis]


def evidence(squares: Floats, z: Floats, power: float, shape: tuple[int, int]) -> float:
    """Return the largest log evidence per image of one target for features of a shape (n, features).

    `squares` and `z` are from `decomposed`, `power` is the target's sum of squares. A step of the fixed point
    (MacKay 1992) then costs as many operations as there are singular values.
    """
    n, width = shape
    outside = max(power - float(z @ z), 0.0)  # what no weights can explain
    alpha, beta = 1.0, 1.0
    for _ in range(_ITERATIONS):
        previous = alpha / beta
        damped = alpha + beta * squares
        effective = float((beta * squares / damped).sum())
        weights = max(float((beta**2 * squares * z**2 / damped**2).sum()), 1e-12)
        residual = max(float((alpha**2 * z**2 / damped**2).sum()) + outside, 1e-12)
        alpha = max(effective, 1e-12) / weights
        beta = max(n - effective, 1e-12) / residual
        if abs(alpha / beta - previous) <= _TOLERANCE * previous:
            break
    damped = alpha + beta * squares
    weights = float((beta**2 * squares * z**2 / damped**2).sum())
    residual = float((alpha**2 * z**2 / damped**2).sum()) + outside
    log_determinant = float(np.log(damped).sum()) + (width - len(squares)) * np.log(alpha)
    total = n * np.log(beta) + width * np.log(alpha) - n * np.log(2 * np.pi)
    total -= beta * residual + alpha * weights + log_determinant
    return float(total / (2 * n))


def spread_of_difference(first: Floats, second: Floats) -> tuple[float, float]:
    """Return the mean difference of two models' scores by fold, and how large it must be to count as one.

    That is the half-width of its 95% interval. Folds share training images, so their variance is corrected:
    (1/k + n_test/n_train) s², with n_test/n_train = 1/(k−1). Nadeau and Bengio: Inference for the Generalization
    Error, Machine Learning 52 (2003).
    """
    from scipy.stats import t

    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    k = len(differences)
    variance = float(differences.var(ddof=1)) * (1 / k + 1 / (k - 1))
    return float(differences.mean()), float(t.ppf(0.975, k - 1)) * float(np.sqrt(variance))
