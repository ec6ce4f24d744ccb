"""Confident learning, and folds that keep what belongs together."""

import numpy as np
import pytest

from imaging_ft.audit.labels import confident_joint, doubts, folds, probe_labels, probe_multilabel
from imaging_ft.types import silent


def test_the_confident_joint_of_a_worked_example() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.45, 0.55]])
    # thresholds: class 0 the mean of .9 .8 .1 = .6, class 1 the mean of .7 .55 = .625
    joint, confident = confident_joint(labels, probabilities)
    assert joint.tolist() == [[2, 1], [0, 1]]
    assert confident.tolist() == [0, 0, 1, 1, -1]
    doubted = doubts(labels, probabilities)
    assert doubted.likely.tolist() == [2]
    assert doubted.suggested.tolist() == [-1, -1, 1, -1, -1]
    assert doubted.score[2] == pytest.approx(0.9)


def clusters(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(3), 100)
    return rng.normal(size=(300, 200)) + rng.normal(size=(3, 200))[truth], truth


def test_planted_label_errors_are_found() -> None:
    features, truth = clusters()
    wrong = np.random.default_rng(1).choice(300, 15, replace=False)
    labels = truth.copy()
    labels[wrong] = (labels[wrong] + 1) % 3
    probed = probe_labels(features, labels, {"each": np.arange(300)}, classes=3, seed=0, track=silent)
    assert probed is not None
    found = doubts(labels, probed.probabilities)
    assert len(set(found.likely.tolist()) & set(wrong.tolist())) >= 14
    assert len(found.likely) <= 20
    assert (found.suggested[wrong] == truth[wrong]).mean() > 0.9


def test_an_image_and_its_copy_are_never_on_both_sides() -> None:
    unit = np.repeat(np.arange(60), 5)
    for kept, held in folds(np.tile(np.arange(3), 100), unit, seed=0):
        assert not set(unit[kept].tolist()) & set(unit[held].tolist())


def test_a_class_in_one_group_takes_the_looser_folds() -> None:
    features, truth = clusters()
    units = {"groups": truth, "files": np.arange(300)}
    probed = probe_labels(features, truth, units, classes=3, seed=0, track=silent)
    assert probed is not None
    assert probed.unit == "files"
    assert probe_labels(features, truth, {"groups": truth}, classes=3, seed=0, track=silent) is None


def test_a_missing_class_of_a_multilabel_image_is_suggested() -> None:
    features, truth = clusters()
    shown = np.eye(3, dtype=np.float32)[truth]
    shown[7, 0] = 0
    found = probe_multilabel(features, shown, np.arange(300), seed=0, track=silent)
    assert found is not None
    assert found.likely[0] == 7
    assert found.suggested[7] == 0
