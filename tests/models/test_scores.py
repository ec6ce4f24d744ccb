"""Scores of frozen features: they agree with closed forms, and see what stands in the features and no more."""

import numpy as np
import pytest
from sklearn.linear_model import BayesianRidge

from imaging_ft.models.scores import (
    balanced_accuracy,
    log_me,
    nearest_neighbours,
    probe_folds,
    spread_of_difference,
    standardised,
)


def task(n: int, width: int, *, signal: float, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.eye(classes)[rng.integers(0, classes, n)]
    features = rng.normal(size=(n, width))
    features[:, :classes] += signal * targets
    return features.astype(np.float32), targets


@pytest.mark.parametrize(("n", "width"), [(200, 20), (40, 100)])
def test_log_me_is_the_evidence_of_bayesian_ridge_regression(n: int, width: int) -> None:
    features, targets = task(n, width, signal=2)
    found: list[float] = []
    for column in targets.T:
        ridge = BayesianRidge(
            fit_intercept=False,
            compute_score=True,
            alpha_1=0,
            alpha_2=0,
            lambda_1=0,
            lambda_2=0,
            tol=1e-9,
            max_iter=3000,
        ).fit(features.astype(np.float64), column)
        found.append(ridge.scores_[-1] / n)
    assert log_me(features, targets) == pytest.approx(np.mean(found), abs=1e-4)


def test_log_me_rises_with_what_the_features_hold() -> None:
    values = [log_me(*task(300, 20, signal=signal)) for signal in (0, 1, 3)]
    assert values == sorted(values)
    assert values[2] > values[0] + 0.1


def test_log_me_bears_features_that_never_change() -> None:
    features, targets = task(100, 10, signal=2)
    features[:, 5:] = 0
    assert np.isfinite(log_me(features, targets))
    assert np.isfinite(log_me(np.repeat(features, 3, axis=1), targets))


@pytest.mark.parametrize(("signal", "low", "high"), [(0, 0.2, 0.47), (4, 0.95, 1)])
def test_the_probe_scores_held_out_folds(signal: float, low: float, high: float) -> None:
    features, targets = task(300, 40, signal=signal)
    found = probe_folds(features, targets, np.arange(300) % 5, multilabel=False)
    assert found.shape == (5,)
    assert low < found.mean() <= high


def test_standardising_uses_the_reference_alone() -> None:
    train, test = np.array([[0.0, 5], [2, 5]]), np.array([[4.0, 7]])
    assert standardised(test, train).tolist() == [[3.0, 0.0]]


def test_neighbours_of_the_same_group_have_no_vote() -> None:
    """Twins are each other's nearest; where they are one group, only chance is left."""
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(60, 30)), 2, axis=0) + rng.normal(size=(120, 30)) * 1e-3
    targets = np.eye(2)[np.repeat(rng.integers(0, 2, 60), 2)]
    groups = [str(index // 2) for index in range(120)]
    alone = [str(index) for index in range(120)]
    assert nearest_neighbours(features, targets, alone, multilabel=False) > 0.7
    assert nearest_neighbours(features, targets, groups, multilabel=False) < 0.65


def test_multi_label_scores_are_means_over_labels() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((400, 2)) < 0.3).astype(float)
    features = rng.normal(size=(400, 12))
    features[:, 0] += 6 * targets[:, 0]  # the first label is in the features, the second is not
    found = probe_folds(features, targets, np.arange(400) % 4, multilabel=True).mean()
    assert found == pytest.approx(0.75, abs=0.06)
    votes = nearest_neighbours(features, targets, [str(index) for index in range(400)], multilabel=True)
    assert 0.55 < votes < 0.85


def test_balanced_accuracy_weighs_classes_alike_and_leaves_out_what_is_not_there() -> None:
    targets = np.eye(3)[[0, 0, 0, 0, 1]]
    assert balanced_accuracy(targets, np.eye(3)[[0, 0, 0, 0, 0]], multilabel=False) == pytest.approx(0.5)
    shown = np.array([[1, 0], [1, 1], [1, 0]])
    assert balanced_accuracy(shown, np.array([[1, 0], [1, 1], [1, 1]]), multilabel=True) == pytest.approx(0.75)


def test_a_difference_must_exceed_the_spread_over_folds() -> None:
    first = np.array([0.80, 0.82, 0.78, 0.81, 0.79])
    difference, needed = spread_of_difference(first, first - 0.1)
    assert difference == pytest.approx(0.1)
    assert needed == pytest.approx(0, abs=1e-9)
    difference, needed = spread_of_difference(first, np.array([0.82, 0.79, 0.80, 0.78, 0.80]))
    # By hand: s² of the differences is 0.00067; t(0.975, 4) = 2.776; (1/5 + 1/4).
    differences = first - np.array([0.82, 0.79, 0.80, 0.78, 0.80])
    assert needed == pytest.approx(2.7764 * np.sqrt(differences.var(ddof=1) * 0.45), rel=1e-4)
    assert abs(difference) < needed
