"""Two models on the same images, two sets of images, and corrections for many comparisons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control

from imaging_ft.bundle import Said
from imaging_ft.report.intervals import difference_of, tango, wilson
from imaging_ft.report.metrics import Scored
from imaging_ft.report.paired import benjamini_hochberg, difference, holm, mcnemar, paired
from imaging_ft.types import Ints, Task

Z = 1.959963984540054


def rows(truth: Said, right: Said, groups: Ints | None = None) -> Scored:
    """Return images of two classes (`truth`: the second) that are said rightly where `right`."""
    said = truth == right
    both = np.stack([~said, said], axis=1)
    codes = np.arange(len(truth)) if groups is None else groups
    return Scored(np.stack([~truth, truth], axis=1), both.astype(np.float32), both, codes)


def at(n: int, *places: tuple[int, int]) -> Said:
    found = np.zeros(n, dtype=np.bool_)
    for low, high in places:
        found[low:high] = True
    return found


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 9), (20, 20), (60, 31)])
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, abs=1e-9)
    assert mcnemar(c, b) == mcnemar(b, c)


def test_figures_are_those_of_the_four_fold_table() -> None:
    truth = at(100, (50, 100))
    mine, theirs = rows(truth, at(100, (0, 90))), rows(truth, at(100, (8, 75), (95, 100)))
    found = paired(mine, theirs, task=Task.BINARY)
    assert (found.only_this, found.only_other) == (23, 5)
    assert found.accuracy.value == pytest.approx(0.18)
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx(tango(23, 5, 100, Z))
    assert found.p == found.p_holm == pytest.approx(binomtest(5, 28).pvalue)
    assert found.balanced_accuracy is not None
    assert found.balanced_accuracy.value == pytest.approx(((50 - 42) / 50 + (40 - 30) / 50) / 2)
    assert found.accuracy.method == "wilson"


def test_the_other_way_round_everything_changes_its_sign() -> None:
    rng = np.random.default_rng(0)
    truth, groups = rng.random(300) < 0.4, np.arange(300) // 5
    mine, theirs = rows(truth, rng.random(300) < 0.9, groups), rows(truth, rng.random(300) < 0.8, groups)
    one, other = paired(mine, theirs, task=Task.BINARY), paired(theirs, mine, task=Task.BINARY)
    assert (one.accuracy.low, one.accuracy.high) == pytest.approx((-other.accuracy.high, -other.accuracy.low))
    assert one.balanced_accuracy is not None
    assert other.balanced_accuracy is not None
    assert one.balanced_accuracy.low == pytest.approx(-other.balanced_accuracy.high)
    assert one.p == pytest.approx(other.p)


def test_groups_that_change_together_are_weaker_evidence() -> None:
    truth = at(200, (0, 100))
    mine, theirs = at(200, (0, 200)), at(200, (20, 200))
    alone = paired(rows(truth, mine), rows(truth, theirs), task=Task.BINARY)
    codes = np.arange(200) // 10
    grouped = paired(rows(truth, mine, codes), rows(truth, theirs, codes), task=Task.BINARY)
    assert alone.p < 1e-4
    assert grouped.p > 0.1  # two groups of twenty
    assert grouped.accuracy.method == "wilson_by_group"
    assert alone.accuracy.low > 0 > grouped.accuracy.low


@pytest.mark.parametrize(("b", "c"), [(4, 0), (30, 14), (45, 22)])
def test_a_grouped_test_is_never_surer_than_the_exact_one_on_images(b: int, c: int) -> None:
    truth, codes = at(1000, (0, 500)), np.arange(1000) // 10
    mine, theirs = np.ones(1000, dtype=np.bool_), np.ones(1000, dtype=np.bool_)
    theirs[np.arange(b) * 10] = False  # one image a group
    mine[(np.arange(c) + b) * 10] = False
    found = paired(rows(truth, mine, codes), rows(truth, theirs, codes), task=Task.BINARY)
    assert (found.only_this, found.only_other) == (b, c)
    assert found.p >= mcnemar(b, c)


def test_one_group_tells_nothing() -> None:
    truth, codes = at(40, (0, 20)), np.zeros(40, dtype=np.int64)
    found = paired(rows(truth, at(40, (0, 40)), codes), rows(truth, at(40, (0, 10)), codes), task=Task.BINARY)
    assert (found.accuracy.low, found.accuracy.high, found.p) == (-1, 1, 1)


def test_a_model_beside_itself_differs_by_nothing_but_not_with_certainty() -> None:
    same = rows(at(60, (0, 30)), at(60, (0, 50)))
    found = paired(same, same, task=Task.BINARY)
    assert (found.accuracy.value, found.p) == (0, 1)
    assert -0.1 < found.accuracy.low < 0 < found.accuracy.high < 0.1


def test_one_class_alone_has_no_balanced_difference() -> None:
    truth = at(60)
    one, two = rows(truth, at(60, (0, 50))), rows(truth, at(60, (0, 40)))
    assert paired(one, two, task=Task.BINARY).balanced_accuracy is None
    assert set(difference(one, two, task=Task.BINARY, same_images=True)) == {"accuracy"}


def test_in_a_multi_label_task_the_balanced_difference_is_the_mean_over_labels() -> None:
    rng = np.random.default_rng(1)
    truth, one, two = (rng.random((200, 3)) < share for share in (0.4, 0.5, 0.5))
    truth[:, 2] = True  # a label on every image doesn't count
    mine, theirs = (Scored(truth, said.astype(np.float32), said, np.arange(200)) for said in (one, two))
    found = paired(mine, theirs, task=Task.MULTILABEL).balanced_accuracy

    def balanced(said: Said) -> float:
        parts = [(said[truth[:, k], k].mean() + (~said[~truth[:, k], k]).mean()) / 2 for k in range(2)]
        return float(np.mean(parts))

    assert found is not None
    assert found.value == pytest.approx(balanced(one) - balanced(two))
    assert found.low < found.value < found.high


def test_two_sets_of_independent_images_are_compared_by_newcombes_method() -> None:
    one, two = rows(at(70, (0, 35)), at(70, (0, 56))), rows(at(80, (0, 40)), at(80, (0, 48)))
    two = Scored(two.truth, two.probabilities, two.said, two.groups + 70)
    found = difference(one, two, task=Task.BINARY, same_images=False)
    assert found["accuracy"] == difference_of(wilson(56, 70), wilson(48, 80))
    assert found["balanced_accuracy"].value == pytest.approx((1 + 21 / 35) / 2 - (1 + 8 / 40) / 2)


def test_sets_whose_groups_vary_together_are_compared_more_closely_than_ones_of_other_groups() -> None:
    rng = np.random.default_rng(2)
    easy = np.repeat(rng.random(60) < 0.7, 5)
    truth, codes = rng.random(300) < 0.5, np.repeat(np.arange(60), 5)
    one, two = rows(truth, easy, codes), rows(truth, easy & (rng.random(300) < 0.9), codes)
    apart = Scored(two.truth, two.probabilities, two.said, codes + 60)
    shared = difference(one, two, task=Task.BINARY, same_images=False)
    separate = difference(one, apart, task=Task.BINARY, same_images=False)
    for name in ("accuracy", "balanced_accuracy"):
        assert shared[name].value == pytest.approx(separate[name].value)
        assert shared[name].high - shared[name].low < 0.7 * (separate[name].high - separate[name].low)
        assert shared[name].method == "mover_by_group"


def test_what_is_not_comparable_is_left_out() -> None:
    both, one_class = rows(at(60, (0, 30)), at(60, (0, 50))), rows(at(40), at(40, (0, 30)))
    assert set(difference(both, one_class, task=Task.BINARY, same_images=False)) == {"accuracy"}
    assert difference(both, both.take(np.arange(0)), task=Task.BINARY, same_images=False) == {}


def naive_holm(p: list[float]) -> list[float]:
    """The definition, comparison by comparison."""
    order = sorted(range(len(p)), key=lambda index: p[index])
    found = [0.0] * len(p)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, (len(p) - rank) * p[index])
        found[index] = min(1.0, largest)
    return found


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_and_benjamini_hochberg_are_the_definitions(p: list[float]) -> None:
    assert holm(p) == pytest.approx(naive_holm(p), abs=1e-9)
    expected = false_discovery_control(p).tolist() if p else []
    found = benjamini_hochberg(p)
    assert found == pytest.approx(expected, abs=1e-9)
    assert all(mine >= raw - 1e-12 for mine, raw in zip(found, p, strict=True))
    assert all(strict >= loose - 1e-12 for strict, loose in zip(holm(p), found, strict=True))
