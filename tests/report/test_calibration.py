"""Brier score, calibration error, reliability and risk over coverage: figures by hand, and what chance does."""

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import brier_score_loss

from imaging_ft.report import calibration
from imaging_ft.report.calibration import BINS, POINTS, brier, calibration_error, detail
from imaging_ft.report.intervals import wilson
from imaging_ft.report.metrics import Scored
from imaging_ft.types import Ints, Task


def binary(p: npt.ArrayLike, shown: npt.ArrayLike, groups: Ints | None = None) -> Scored:
    """Return images of two classes; `p` is the probability of the second, which `shown` says they show."""
    ill = np.asarray(p, dtype=np.float64)
    truth = np.asarray(shown, dtype=np.bool_)
    both = np.stack([1 - ill, ill], axis=1)
    codes = np.arange(len(ill)) if groups is None else groups
    return Scored(np.stack([~truth, truth], axis=1), both, both == both.max(axis=1, keepdims=True), codes)


def drawn(n: int, seed: int, *, sharp: float = 1.0, twins: int = 1) -> Scored:
    """Return images whose probabilities are right where `sharp` is 1 and too sure above it."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, n)
    shown = rng.random(n) < 1 / (1 + np.exp(-logit))
    p = 1 / (1 + np.exp(-sharp * logit))
    return binary(np.repeat(p, twins), np.repeat(shown, twins), np.repeat(np.arange(n), twins))


def test_the_brier_score_sums_over_the_classes() -> None:
    rows = drawn(400, 0)
    found = brier(rows, task=Task.BINARY)
    theirs = brier_score_loss(rows.truth[:, 1], rows.probabilities[:, 1])
    assert found.value == pytest.approx(2 * theirs, abs=1e-9)
    assert 0 < found.low < found.value < found.high < 2
    assert found.method == "jackknife"


def test_a_brier_score_of_0_or_2_stays_within_its_range_and_is_not_certain() -> None:
    shown = np.arange(40) < 20
    right, wrong = brier(binary(shown, shown), task=Task.BINARY), brier(binary(~shown, shown), task=Task.BINARY)
    assert (right.value, right.low) == (0, 0)
    assert (wrong.value, wrong.high) == (2, 2)
    assert right.high == pytest.approx(2 * wilson(0, 40).high)
    assert wrong.low == pytest.approx(2 * wilson(40, 40).low)


def test_a_hundred_confidences_in_fifteen_bins_give_the_error_done_by_hand() -> None:
    confidence = np.linspace(0.51, 0.99, 105)
    right = np.arange(105) % 7 < 5
    rows = binary(confidence, right)
    gaps = [abs(float((right[bin_] - confidence[bin_]).sum())) for bin_ in np.split(np.arange(105), BINS)]
    assert calibration_error(rows, task=Task.BINARY).value == pytest.approx(sum(gaps) / 105)


def test_a_calibrated_model_is_seldom_said_to_be_miscalibrated_and_an_overconfident_one_is() -> None:
    above = 0
    for seed in range(40):
        found = calibration_error(drawn(300, seed), task=Task.BINARY)
        assert found.value > 0.01  # chance alone
        above += found.low > 0
    assert above <= 2
    assert calibration_error(drawn(2000, 1, sharp=4.0), task=Task.BINARY).low > 0.05


def test_twins_are_no_more_evidence_of_miscalibration_than_one() -> None:
    one, four = (calibration_error(drawn(300, 2, sharp=2.0, twins=count), task=Task.BINARY) for count in (1, 4))
    assert four.value == pytest.approx(one.value)
    assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.1)
    assert four.method == "jackknife_by_group"


def test_a_sure_model_that_is_always_right_has_no_error_but_room_for_one() -> None:
    shown = np.arange(40) < 20
    found = calibration_error(binary(shown, shown), task=Task.BINARY)
    assert (found.value, found.low) == (0, 0)
    assert 0.05 < found.high < 0.12


def test_in_a_multi_label_task_every_labels_probability_is_a_claim() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random((500, 3)) < 0.3
    p = np.full((500, 3), 0.3)
    rows = Scored(truth, p, p >= 0.5, np.arange(500))
    found = calibration_error(rows, task=Task.MULTILABEL)
    assert found.value == pytest.approx(abs(float(truth.mean()) - 0.3))
    assert brier(rows, task=Task.MULTILABEL).value == pytest.approx(float(np.square(p - truth).sum(axis=1).mean()))
    shown = detail(rows, ["a", "b", "c"], task=Task.MULTILABEL, conditions={})
    assert shown.confusion is None
    assert [(part.n, part.confidence) for part in shown.reliability] == [(1500, pytest.approx(0.3))]
    assert shown.reliability[0].accuracy.method == "wilson_by_group"  # three claims an image


def test_bins_hold_about_as_many_images_each_and_equal_confidences_share_one() -> None:
    rows = drawn(1000, 4)
    found = detail(rows, ["a", "b"], task=Task.BINARY, conditions={"noise": 3})
    assert found.conditions == {"noise": 3}
    assert len(found.reliability) == BINS
    assert sum(part.n for part in found.reliability) == 1000
    assert {part.n for part in found.reliability} <= {66, 67, 68}
    confidences = [part.confidence for part in found.reliability]
    assert confidences == sorted(confidences)
    shown = np.arange(100) < 50
    two = detail(binary(np.repeat([0.2, 0.9], 50), shown), ["a", "b"], task=Task.BINARY, conditions={})
    assert [(part.n, round(part.confidence, 6)) for part in two.reliability] == [(50, 0.8), (50, 0.9)]
    assert two.reliability[0].accuracy == wilson(0, 50)


def test_the_confusion_matrix_has_what_is_shown_in_rows_and_what_is_said_in_columns() -> None:
    truth, said = np.repeat([0, 1, 2], [4, 3, 2]), np.array([0, 0, 1, 2, 1, 1, 0, 2, 2])
    one_hot = np.eye(3, dtype=np.bool_)
    rows = Scored(one_hot[truth], one_hot[said].astype(np.float32), one_hot[said], np.arange(9))
    found = detail(rows, ["a", "b", "c"], task=Task.MULTICLASS, conditions={})
    assert found.confusion == [[2, 1, 1], [1, 2, 0], [0, 0, 2]]


def naive_risk(confidence: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the error among the k most confident images, for every k."""
    order = np.argsort(-confidence)
    return np.cumsum(wrong[order]) / np.arange(1, len(wrong) + 1)


def test_risk_over_coverage_is_the_error_among_the_most_confident() -> None:
    rows = drawn(500, 5)
    confidence, wrong = rows.probabilities.max(axis=1).astype(np.float64), ~rows.right
    risks = naive_risk(confidence, wrong)
    found = detail(rows, ["a", "b"], task=Task.BINARY, conditions={})
    assert found.aurc == pytest.approx(float(risks.mean()), abs=1e-9)
    assert len(found.risk_coverage) == POINTS
    for coverage, risk in found.risk_coverage:
        assert risk == pytest.approx(risks[round(coverage * 500) - 1], abs=1e-9)
    assert found.risk_coverage[-1] == (1, pytest.approx(float(wrong.mean())))


def test_equal_confidences_are_answered_in_no_order() -> None:
    rng = np.random.default_rng(6)
    p = np.round(rng.uniform(0.5, 1, 200), 1)
    p[p == 0.5] = 0.6
    rows = binary(p, rng.random(200) < p)
    again = rows.take(rng.permutation(200))
    one, other = (detail(part, ["a", "b"], task=Task.BINARY, conditions={}) for part in (rows, again))
    assert one == other
    shuffled = [
        float(naive_risk(rows.probabilities.max(axis=1) + 1e-9 * rng.random(200), ~rows.right).mean())
        for _ in range(400)
    ]
    assert one.aurc == pytest.approx(float(np.mean(shuffled)), abs=1e-3)


def test_few_images_have_few_points() -> None:
    assert len(detail(drawn(12, 7), ["a", "b"], task=Task.BINARY, conditions={}).risk_coverage) == 12


def test_above_a_number_of_rows_bins_are_cut_at_coarse_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(3000, 8, sharp=2.0)
    exact = calibration_error(rows, task=Task.BINARY)
    monkeypatch.setattr(calibration, "EXACT_UP_TO", 100)
    binned = calibration_error(rows, task=Task.BINARY)
    assert (binned.value, binned.high) == pytest.approx((exact.value, exact.high), abs=2e-3)
