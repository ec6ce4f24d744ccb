"""The evidence of a set of images: figures done by hand, what is left out, what is flagged, and what groups change."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from imaging_ft.bundle import Said
from imaging_ft.report.intervals import mean_of, quantile, wilson
from imaging_ft.report.metrics import MIN_GROUPS, Scored, evidence
from imaging_ft.report.result import Evidence
from imaging_ft.report.scored import Units, effective
from imaging_ft.types import Ints, Status, Task


def classes(*counts: int) -> Ints:
    return np.repeat(np.arange(len(counts)), counts).astype(np.int64)


def measured(truth: Ints, said: Ints, labels: list[str], groups: Ints | None = None) -> Evidence:
    """Return the evidence of one class an image, given as indices into `labels`."""
    one_hot = np.eye(len(labels), dtype=np.bool_)
    codes = np.arange(len(truth)) if groups is None else groups
    rows = Scored(one_hot[truth], one_hot[said].astype(np.float32), one_hot[said], codes)
    return evidence(rows, labels, task=Task.MULTICLASS)


def several(truth: Said, said: Said) -> Evidence:
    """Return the evidence of a multi-label task: what images show and what is said of them, [n, labels]."""
    labels = [f"l{index}" for index in range(truth.shape[1])]
    return evidence(Scored(truth, said.astype(np.float32), said, np.arange(len(truth))), labels, task=Task.MULTILABEL)


def columns(*labels: tuple[int, int]) -> Said:
    """Return [n, labels] of 100 images; each label is true from one image to another."""
    places = np.arange(100)
    return np.stack([(places >= low) & (places < high) for low, high in labels], axis=1)


def made_up(n: int, seed: int, *, a_group: int = 1, labels: int = 3) -> Scored:
    rng = np.random.default_rng(seed)
    truth = np.eye(labels, dtype=np.bool_)[rng.integers(0, labels, n)]
    logits = rng.standard_normal((n, labels)) + 1.5 * truth
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Scored(truth, p, p == p.max(axis=1, keepdims=True), np.arange(n) // a_group)


def values(found: Evidence, *, without: tuple[str, ...] = ("auroc", "auprc", "brier", "ece")) -> dict[str, float]:
    return {name: estimate.value for name, estimate in found.metrics.items() if not name.startswith(without)}


def test_figures_are_those_of_a_confusion_matrix_done_by_hand() -> None:
    truth = classes(40, 30, 30)
    said = truth.copy()
    said[:4] = 1  # 4 of class 0 taken for class 1
    said[40:46] = 2  # 6 of class 1 taken for class 2
    found = measured(truth, said, ["a", "b", "c"])
    assert values(found) == pytest.approx({
        "accuracy": 90 / 100,
        "balanced_accuracy": (36 / 40 + 24 / 30 + 30 / 30) / 3,
        "macro_f1": (72 / 76 + 48 / 58 + 60 / 66) / 3,
        "sensitivity[a]": 36 / 40,
        "sensitivity[b]": 24 / 30,
        "sensitivity[c]": 1,
        "specificity[a]": 1,
        "specificity[b]": 66 / 70,
        "specificity[c]": 64 / 70,
    })  # fmt: skip
    assert found.metrics["accuracy"] == wilson(90, 100)
    assert found.metrics["specificity[b]"] == wilson(66, 70)
    assert (found.n, found.groups, found.status) == (100, 100, Status.OK)


def test_figures_are_scikit_learns() -> None:
    rows = made_up(300, 0)
    truth, said = rows.truth.argmax(axis=1), rows.said.argmax(axis=1)
    found = {
        name: estimate.value for name, estimate in evidence(rows, ["a", "b", "c"], task=Task.MULTICLASS).metrics.items()
    }
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, said), abs=1e-9)
    assert found["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro"), abs=1e-9)
    assert found["auroc[b]"] == pytest.approx(roc_auc_score(truth == 1, rows.probabilities[:, 1]), abs=1e-9)
    assert found["auprc[b]"] == pytest.approx(average_precision_score(truth == 1, rows.probabilities[:, 1]), abs=1e-9)


@pytest.mark.parametrize("a_group", [1, 3])
def test_macro_f1_varies_as_finite_differences_say(a_group: int) -> None:
    rows = made_up(90, 1, a_group=a_group)
    truth, said = rows.truth.argmax(axis=1), rows.said.argmax(axis=1)
    moves = np.zeros(90)
    for index in range(90):
        step = np.zeros(90)
        step[index] = 1e-5
        up, down = (f1_score(truth, said, average="macro", sample_weight=1 + sign * step) for sign in (1, -1))
        moves[index] = (up - down) / 2e-5
    sums = moves.reshape(-1, a_group).sum(axis=1)
    variance = float((sums**2).sum()) * len(sums) / (len(sums) - 1)
    found = evidence(rows, ["a", "b", "c"], task=Task.MULTICLASS).metrics["macro_f1"]
    width = np.log(found.high / (1 - found.high)) - np.log(found.value / (1 - found.value))
    q = quantile() if a_group == 1 else quantile(len(sums) - 1)
    # With groups a tenth of one that varies as widely as can be is added.
    expected = q * np.sqrt(variance) / (found.value * (1 - found.value))
    assert width == pytest.approx(expected, rel=1e-6 if a_group == 1 else 0.05)
    assert width > 0.999 * expected


def test_below_ten_images_there_is_no_metric_but_still_a_count() -> None:
    nine = measured(classes(5, 4), classes(5, 4), ["a", "b"])
    assert (nine.n, nine.groups, nine.status, nine.metrics) == (9, 9, Status.UNDEFINED, {})
    nothing = measured(classes(0), classes(0), ["a", "b"])
    assert (nothing.n, nothing.groups, nothing.status) == (0, 0, Status.UNDEFINED)
    assert measured(classes(5, 5), classes(5, 5), ["a", "b"]).status is Status.LOW_N


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
    assert measured(truth, truth, ["a", "b", "c"][: len(counts)]).status is status


def test_many_images_of_few_groups_are_flagged() -> None:
    truth = np.tile([0, 1], 100)
    few, enough = (measured(truth, truth, ["a", "b"], np.arange(200) % count) for count in (MIN_GROUPS - 1, MIN_GROUPS))
    assert (few.groups, few.status) == (9, Status.LOW_N)
    assert (enough.groups, enough.status) == (10, Status.OK)


def test_an_absent_class_has_no_sensitivity_and_does_not_count_in_balanced_accuracy() -> None:
    truth = classes(30, 30, 0)
    said = truth.copy()
    said[:15] = 2
    found = measured(truth, said, ["a", "b", "c"]).metrics
    assert not {"sensitivity[c]", "auroc[c]", "auprc[c]"} & set(found)
    assert found["specificity[c]"].value == 45 / 60
    assert found["balanced_accuracy"].value == pytest.approx((0.5 + 1) / 2)


def test_one_class_alone_has_no_balanced_accuracy_no_auroc_and_no_specificity_of_its_own() -> None:
    truth = classes(60)
    found = measured(truth, truth, ["a", "b"]).metrics
    assert set(found) == {"accuracy", "macro_f1", "sensitivity[a]", "specificity[b]", "brier", "ece"}


def test_in_a_binary_task_the_sensitivity_of_one_class_is_the_specificity_of_the_other() -> None:
    found = measured(classes(40, 60), np.concatenate([classes(30, 10), classes(12, 48)]), ["healthy", "ill"]).metrics
    assert found["sensitivity[ill]"] == found["specificity[healthy]"] == wilson(48, 60)
    assert found["sensitivity[healthy]"] == found["specificity[ill]"] == wilson(30, 40)
    assert found["balanced_accuracy"] == mean_of([wilson(30, 40), wilson(48, 60)])


def test_figures_of_several_labels_are_those_done_by_hand() -> None:
    truth = columns((0, 40), (30, 60))
    said = columns((5, 50), (30, 55))  # misses 5 and adds 10 of the first, misses 5 of the second
    found = several(truth, said)
    assert values(found) == pytest.approx({
        "accuracy": 80 / 100,
        "balanced_accuracy": ((35 / 40 + 50 / 60) / 2 + (25 / 30 + 70 / 70) / 2) / 2,
        "macro_f1": (70 / 85 + 50 / 55) / 2,
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
    assert several(truth, columns((0, 50), (0, 50), (0, 0))).metrics["accuracy"].value == 0.5
    assert several(truth, ~truth).metrics["accuracy"].value == 0


def test_images_that_rightly_show_nothing_count_as_right() -> None:
    assert several(columns((0, 20), (10, 30)), columns((0, 0), (0, 0))).metrics["accuracy"].value == 0.7


def test_a_label_on_no_image_or_on_every_one_does_not_count_in_balanced_accuracy() -> None:
    truth = columns((0, 0), (0, 100), (0, 50))
    found = several(truth, columns((0, 30), (0, 80), (0, 40))).metrics
    assert {name for name in found if "l0" in name or "l1" in name} == {"specificity[l0]", "sensitivity[l1]"}
    assert found["balanced_accuracy"].value == pytest.approx((40 / 50 + 1) / 2)
    assert "balanced_accuracy" not in several(truth[:, :2], truth[:, :2]).metrics


@pytest.mark.parametrize(
    ("shown", "status"), [(0, Status.OK), (9, Status.LOW_N), (10, Status.OK), (90, Status.OK), (91, Status.LOW_N)]
)
def test_few_images_with_or_without_a_label_are_flagged(shown: int, status: Status) -> None:
    truth = columns((0, 50), (0, shown))
    assert several(truth, truth).status is status
    assert several(truth[:49], truth[:49]).status is Status.LOW_N
    assert several(truth[:9], truth[:9]).status is Status.UNDEFINED


def test_labels_that_always_err_together_are_no_more_evidence_than_one() -> None:
    truth, said = columns((0, 50)), columns((6, 60))
    one = several(truth, said).metrics["balanced_accuracy"]
    five = several(np.repeat(truth, 5, axis=1), np.repeat(said, 5, axis=1)).metrics["balanced_accuracy"]
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
    hits, trials, widths = 0, 300, list[float]()
    for _ in range(trials):
        truth = rng.random((200, 4)) < 0.4
        draws = np.where(rng.random((200, 1)) < together, rng.random((200, 1)), rng.random((200, 4)))
        found = several(truth, truth ^ (draws >= shares)).metrics["balanced_accuracy"]
        hits += found.low <= shares.mean() <= found.high
        widths.append(found.high - found.low)
    assert 0.92 <= hits / trials <= 0.985
    assert (float(np.mean(widths)) > 0.065) == (together > 0)


def test_copies_of_an_image_in_one_group_are_hardly_more_evidence_than_the_image() -> None:
    rows = made_up(300, 2)
    copies = rows.take(np.repeat(np.arange(300), 4))
    labels = ["a", "b", "c"]
    alone, grouped = (evidence(part, labels, task=Task.MULTICLASS) for part in (rows, copies))
    blind = evidence(
        Scored(copies.truth, copies.probabilities, copies.said, np.arange(1200)), labels, task=Task.MULTICLASS
    )
    assert (grouped.n, grouped.groups) == (1200, 300)
    for name, estimate in alone.metrics.items():
        assert grouped.metrics[name].value == pytest.approx(estimate.value)
        width = estimate.high - estimate.low
        assert grouped.metrics[name].high - grouped.metrics[name].low == pytest.approx(width, rel=0.08), name
        assert blind.metrics[name].high - blind.metrics[name].low < 0.75 * width, name
        assert grouped.metrics[name].method == estimate.method + "_by_group"


@settings(max_examples=30, deadline=None)
@given(st.integers(10, 80), st.integers(0, 10_000), st.integers(1, 7), st.integers(2, 4), st.booleans())
def test_every_metric_lies_in_its_interval_whatever_the_order_and_the_codes(
    n: int, seed: int, a_group: int, labels: int, multi: bool
) -> None:
    rows = made_up(n, seed, a_group=a_group, labels=labels)
    if multi:
        rows = Scored(rows.truth, rows.probabilities, rows.probabilities >= 0.3, rows.groups)
    names, task = [str(index) for index in range(labels)], Task.MULTILABEL if multi else Task.MULTICLASS
    found = evidence(rows, names, task=task)
    shuffled = rows.take(np.random.default_rng(seed).permutation(n))
    gaps = Scored(shuffled.truth, shuffled.probabilities, shuffled.said, shuffled.groups * 1_000_003 + 17)
    again = evidence(gaps, names, task=task)
    assert found.groups == again.groups == -(-n // a_group)
    assert set(found.metrics) == set(again.metrics)
    for name, estimate in found.metrics.items():
        top = 2 if name == "brier" and not multi else labels if name == "brier" else 1
        assert 0 <= estimate.low <= estimate.value + 1e-12, name
        assert estimate.value - 1e-12 <= estimate.high <= top, name
        other = again.metrics[name]
        assert (other.value, other.low, other.high) == pytest.approx((estimate.value, estimate.low, estimate.high)), (
            name
        )


def test_codes_with_gaps_are_counted_through_a_table_or_by_sorting_alike() -> None:
    codes = np.array([5, 5, 2, 9, 2, 2])
    for spread in (1, 10**9):
        units = Units.of(codes * spread)
        assert units.count == 3
        assert units.codes is not None
        assert units.codes.tolist() == [1, 1, 0, 2, 0, 0]
    assert Units.of(np.array([4, 7, 1])).codes is None
    assert effective(np.array([3.0, 3, 3, 0])) == 3
    assert effective(np.zeros(3)) == 0


def test_taking_rows_takes_all_that_belongs_to_them() -> None:
    rows = made_up(20, 3, a_group=2)
    part: Scored = rows.take(np.array([3, 17]))
    kept: npt.NDArray[np.int64] = part.groups
    assert kept.tolist() == [1, 8]
    assert (part.truth == rows.truth[[3, 17]]).all()
    assert (part.said == rows.said[[3, 17]]).all()
    assert (part.probabilities == rows.probabilities[[3, 17]]).all()
