"""Metrics and their intervals: the closed form, the coverage, and what small numbers may not say."""

import numpy as np
import pytest

from imaging_ft.bundle import Said
from imaging_ft.report import statistics
from imaging_ft.report.result import Evidence
from imaging_ft.report.statistics import CONFIDENCE, mean_of, wilson
from imaging_ft.types import Ints, Status, Task

Z = 1.959963984540054


def closed_form(right: int, n: int) -> tuple[float, float]:
    """Wilson 1927, equation by equation."""
    share = right / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return centre - half, centre + half


def classes(*counts: int) -> Ints:
    return np.repeat(np.arange(len(counts)), counts).astype(np.int64)


def evidence(truth: Ints, predicted: Ints, labels: list[str], groups: list[str]) -> Evidence:
    """Return the evidence of one class an image, given as indices into `labels`."""
    one_hot = np.eye(len(labels), dtype=np.bool_)
    return statistics.evidence(one_hot[truth], one_hot[predicted], labels, groups, task=Task.MULTICLASS)


def units(truth: Ints) -> list[str]:
    return [str(index) for index in range(len(truth))]


@pytest.mark.parametrize(("right", "n"), [(1, 2), (0, 10), (10, 10), (45, 50), (90, 100), (360, 400), (1, 700)])
def test_wilson_is_the_closed_form(right: int, n: int) -> None:
    found = wilson(right, n)
    low, high = closed_form(right, n)
    assert found.value == right / n
    assert found.low == pytest.approx(low, abs=1e-12)
    assert found.high == pytest.approx(high, abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.method == "wilson"


def test_wilson_is_symmetric_and_narrows_with_n() -> None:
    assert wilson(30, 40).low == pytest.approx(1 - wilson(10, 40).high)
    widths = [wilson(9 * k, 10 * k).high - wilson(9 * k, 10 * k).low for k in (1, 5, 20, 40)]
    assert widths == sorted(widths, reverse=True)
    assert widths[1:] == pytest.approx([2 * 0.085, 2 * 0.042, 2 * 0.03], abs=0.01)  # n = 50, 200, 400


@pytest.mark.parametrize(
    ("counts", "shares"),
    [
        ((200, 200, 200, 200), (0.95, 0.9, 0.8, 0.7)),
        ((40, 40), (0.9, 0.7)),
        ((20, 60, 200), (0.8, 0.9, 0.95)),
        ((15, 15, 15, 15), (0.9, 0.85, 0.95, 0.6)),
    ],
)
def test_the_interval_of_a_mean_covers_as_often_as_it_says(counts: tuple[int, ...], shares: tuple[float, ...]) -> None:
    rng = np.random.default_rng(11)
    known = [[wilson(right, n) for right in range(n + 1)] for n in counts]
    truth = float(np.mean(shares))
    trials = 3000
    draws = np.stack([rng.binomial(n, share, trials) for n, share in zip(counts, shares, strict=True)], axis=1)
    hits = 0
    for row in draws.tolist():
        found = mean_of([estimates[right] for estimates, right in zip(known, row, strict=True)])
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / trials <= 0.985


def test_the_mean_of_one_proportion_is_that_proportion_and_limits_stay_within_0_and_1() -> None:
    one = wilson(9, 10)
    found = mean_of([one])
    assert (found.value, found.low, found.high) == pytest.approx((one.value, one.low, one.high))
    assert found.method == "mover"
    perfect = mean_of([wilson(10, 10), wilson(10, 10)])
    assert perfect.value == perfect.high == 1
    assert 0 < perfect.low < 1


def test_the_mean_of_equal_parts_is_narrower_by_the_root_of_their_number() -> None:
    one = wilson(50, 100)
    four = mean_of([one] * 4)
    assert four.value - four.low == pytest.approx((one.value - one.low) / 2)


def test_figures_are_those_of_a_confusion_matrix_done_by_hand() -> None:
    truth = classes(40, 30, 30)
    predicted = truth.copy()
    predicted[:4] = 1  # 4 of class 0 taken for class 1
    predicted[40:46] = 2  # 6 of class 1 taken for class 2
    found = evidence(truth, predicted, ["a", "b", "c"], units(truth))
    values = {name: estimate.value for name, estimate in found.metrics.items()}
    assert values == pytest.approx({
        "accuracy": 90 / 100,
        "balanced_accuracy": (36 / 40 + 24 / 30 + 30 / 30) / 3,
        "sensitivity[a]": 36 / 40,
        "sensitivity[b]": 24 / 30,
        "sensitivity[c]": 1,
        "specificity[a]": 1,
        "specificity[b]": 66 / 70,
        "specificity[c]": 64 / 70,
    })  # fmt: skip
    assert (found.n, found.groups, found.status) == (100, 100, Status.OK)


def test_below_ten_images_there_is_no_metric_but_still_a_count() -> None:
    nine = evidence(classes(5, 4), classes(5, 4), ["a", "b"], units(classes(9)))
    assert (nine.n, nine.status, nine.metrics) == (9, Status.UNDEFINED, {})
    nothing = evidence(classes(0), classes(0), ["a", "b"], [])
    assert (nothing.n, nothing.groups, nothing.status) == (0, 0, Status.UNDEFINED)
    assert evidence(classes(5, 5), classes(5, 5), ["a", "b"], units(classes(10))).status is Status.LOW_N


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ((25, 24), Status.LOW_N),
        ((25, 25), Status.OK),
        ((91, 9), Status.LOW_N),
        ((9, 91), Status.LOW_N),
        ((90, 10), Status.OK),
        ((50, 50, 9), Status.LOW_N),
        ((50, 50, 0), Status.OK),
    ],
)
def test_few_images_or_few_of_a_class_are_flagged(counts: tuple[int, ...], status: Status) -> None:
    truth = classes(*counts)
    assert evidence(truth, truth, ["a", "b", "c"][: len(counts)], units(truth)).status is status


def test_an_absent_class_has_no_sensitivity_and_does_not_count_in_balanced_accuracy() -> None:
    truth = classes(30, 30, 0)
    predicted = truth.copy()
    predicted[:15] = 2
    found = evidence(truth, predicted, ["a", "b", "c"], units(truth)).metrics
    assert "sensitivity[c]" not in found
    assert found["specificity[c]"].value == 45 / 60
    assert found["balanced_accuracy"].value == pytest.approx((0.5 + 1) / 2)


def test_one_class_alone_has_no_balanced_accuracy_and_no_specificity_of_its_own() -> None:
    truth = classes(60)
    found = evidence(truth, truth, ["a", "b"], units(truth)).metrics
    assert set(found) == {"accuracy", "sensitivity[a]", "specificity[b]"}


def test_in_a_binary_task_the_sensitivity_of_one_class_is_the_specificity_of_the_other() -> None:
    truth = classes(40, 60)
    predicted = np.concatenate([classes(30, 10), classes(12, 48)])
    found = evidence(truth, predicted, ["healthy", "ill"], units(truth)).metrics
    assert found["sensitivity[ill]"] == found["specificity[healthy]"] == wilson(48, 60)
    assert found["sensitivity[healthy]"] == found["specificity[ill]"] == wilson(30, 40)
    assert found["balanced_accuracy"].value == pytest.approx((48 / 60 + 30 / 40) / 2)


def test_groups_are_counted_once() -> None:
    truth = classes(30, 30)
    assert evidence(truth, truth, ["a", "b"], [f"patient {index // 6}" for index in range(60)]).groups == 10


def test_intervals_are_of_95_percent() -> None:
    assert CONFIDENCE == 0.95


def several(truth: Said, predicted: Said) -> Evidence:
    """Return the evidence of a multi-label task: what images show and what was said of them, [n, labels]."""
    labels = [f"l{index}" for index in range(truth.shape[1])]
    return statistics.evidence(truth, predicted, labels, [str(i) for i in range(len(truth))], task=Task.MULTILABEL)


def columns(*labels: tuple[int, int]) -> Said:
    """Return [n, labels] of 100 images; each label is true from one image to another."""
    places = np.arange(100)
    return np.stack([(places >= low) & (places < high) for low, high in labels], axis=1)


def test_figures_of_several_labels_are_those_done_by_hand() -> None:
    truth = columns((0, 40), (30, 60))
    predicted = columns((5, 50), (30, 55))  # misses 5 and adds 10 of the first, misses 5 of the second
    found = several(truth, predicted)
    values = {name: estimate.value for name, estimate in found.metrics.items()}
    assert values == pytest.approx({
        "accuracy": 80 / 100,
        "balanced_accuracy": ((35 / 40 + 50 / 60) / 2 + (25 / 30 + 70 / 70) / 2) / 2,
        "sensitivity[l0]": 35 / 40,
        "sensitivity[l1]": 25 / 30,
        "specificity[l0]": 50 / 60,
        "specificity[l1]": 1,
    })  # fmt: skip
    assert found.metrics["sensitivity[l0]"] == wilson(35, 40)
    assert found.metrics["accuracy"] == wilson(80, 100)
    assert found.status is Status.OK


def test_an_image_is_right_only_where_every_label_is() -> None:
    truth = columns((0, 50), (0, 50), (0, 50))
    predicted = columns((0, 50), (0, 50), (0, 0))
    assert several(truth, predicted).metrics["accuracy"].value == 0.5
    assert several(truth, ~truth).metrics["accuracy"].value == 0


def test_images_that_rightly_show_nothing_count_as_right() -> None:
    assert several(columns((0, 20), (10, 30)), columns((0, 0), (0, 0))).metrics["accuracy"].value == 0.7


def test_a_label_on_no_image_or_on_every_one_does_not_count_in_balanced_accuracy() -> None:
    truth = columns((0, 0), (0, 100), (0, 50))
    predicted = columns((0, 30), (0, 80), (0, 40))
    found = several(truth, predicted).metrics
    assert {name for name in found if "l0" in name or "l1" in name} == {"specificity[l0]", "sensitivity[l1]"}
    assert found["balanced_accuracy"].value == pytest.approx((40 / 50 + 1) / 2)
    assert "balanced_accuracy" not in several(truth[:, :2], predicted[:, :2]).metrics


@pytest.mark.parametrize(
    ("shown", "status"), [(0, Status.OK), (9, Status.LOW_N), (10, Status.OK), (90, Status.OK), (91, Status.LOW_N)]
)
def test_few_images_with_or_without_a_label_are_flagged(shown: int, status: Status) -> None:
    truth = columns((0, 50), (0, shown))
    assert several(truth, truth).status is status
    assert several(truth[:49], truth[:49]).status is Status.LOW_N
    assert several(truth[:9], truth[:9]).status is Status.UNDEFINED


def test_labels_that_always_err_together_are_no_more_evidence_than_one() -> None:
    truth, predicted = columns((0, 50)), columns((6, 60))
    one = several(truth, predicted).metrics["balanced_accuracy"]
    five = several(np.repeat(truth, 5, axis=1), np.repeat(predicted, 5, axis=1)).metrics["balanced_accuracy"]
    assert (five.value, five.low, five.high) == pytest.approx((one.value, one.low, one.high))
    perfect = several(truth, truth).metrics["balanced_accuracy"]
    assert (perfect.low, perfect.high) == pytest.approx((mean_of([wilson(50, 50)] * 2).low, 1))
    more = several(np.repeat(truth, 5, axis=1), np.repeat(truth, 5, axis=1)).metrics["balanced_accuracy"]
    assert (more.low, more.high) == pytest.approx((perfect.low, perfect.high))


@pytest.mark.parametrize("together", [0.0, 0.7])
def test_the_interval_over_labels_covers_as_often_as_it_says(together: float) -> None:
    """Four labels, right with a share of 0.8 and 0.9; `together` of the images err in all labels or in none."""
    rng = np.random.default_rng(5)
    shares = np.array([0.8, 0.9, 0.8, 0.9])
    hits, trials, widths = 0, 400, []
    for _ in range(trials):
        truth = rng.random((200, 4)) < 0.4
        draws = np.where(rng.random((200, 1)) < together, rng.random((200, 1)), rng.random((200, 4)))
        predicted = truth ^ (draws >= shares)
        found = several(truth, predicted).metrics["balanced_accuracy"]
        hits += found.low <= shares.mean() <= found.high
        widths.append(found.high - found.low)
    assert 0.92 <= hits / trials <= 0.985
    assert (float(np.mean(widths)) > 0.065) == (together > 0)
