"""Gates: what an expression means, what it is held against, and what a wrong one is told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging_ft.errors import ConfigError
from imaging_ft.report.gates import EXAMPLE, Known, Requirement, exit_code
from imaging_ft.report.result import Against, Cell, Estimate, Evidence, Gap, Gate, Paired
from imaging_ft.report.wording import name_of
from imaging_ft.types import Status

LABELS = ["handgun", "razor blade", "a[1]"]
METRICS = ["accuracy", "balanced_accuracy", *(f"sensitivity[{label}]" for label in LABELS)]
RANK = {"fail": 0, "insufficient": 1, "pass": 2}


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, method="wilson")


def evidence(value: float, *, half: float = 0.05, status: Status = Status.OK, n: int = 400) -> Evidence:
    metrics = {} if status is Status.UNDEFINED else {name: estimate(value, half) for name in METRICS}
    if metrics:
        metrics |= {"brier": estimate(0.15, 0.03), "ece": estimate(0.04, 0.02)}
    return Evidence(n=n, groups=n, status=status, metrics=metrics)


def paired(value: float, half: float = 0.02) -> Paired:
    return Paired(accuracy=estimate(value, half), balanced_accuracy=None, only_this=9, only_other=5, p=0.4, p_holm=1.0)


def cell(
    conditions: dict[str, int | str], value: float, *, source: str = "synthetic", against: float | None = None, **more
) -> Cell:
    found = evidence(value, **more)
    rest = {"source": source, "conditions": conditions, "axes": list(conditions)}
    compared = {} if against is None else {"against": paired(against).model_dump()}
    return Cell.checked({**found.model_dump(), **rest, **compared}, where="test")


def gap(of: str, source: str, best: str, worst: str, value: float, *, half: float = 0.03) -> Gap:
    metrics = {"accuracy": estimate(value, half).model_dump()}
    return Gap.checked({"of": of, "source": source, "best": best, "worst": worst, "metrics": metrics}, where="test")


@dataclass(frozen=True)
class Measured:
    """As much of a report as gates look at."""

    overall: Evidence = field(default_factory=lambda: evidence(0.9))
    cells: Sequence[Cell] = ()
    gaps: Sequence[Gap] = ()
    against: Against | None = None


CELLS = (
    cell({"low_dose": 3}, 0.8, against=0.04),
    cell({"low_dose": 3, "roll": 5}, 0.6, against=-0.05),
    cell({"roll": 5}, 0.9, against=0.01),
    cell({"site": "B"}, 0.5, source="recorded", against=-0.01),
    cell({"site": "Graz, north"}, 0.7, source="recorded"),
    cell({"site": "ward [3]"}, 0.71, source="recorded"),
    cell({"angle": "-40 to <-20"}, 0.72, source="recorded"),
    cell({"angle": "-20 to 40"}, 0.82, source="recorded"),
    cell({"site": "Graz, north", "sex": "F"}, 0.73, source="recorded"),
    cell({"sex": "F"}, 0.74, source="recorded"),
    cell({"sex": "M"}, 0.3, source="recorded", status=Status.UNDEFINED, n=4),
    cell({"brightness": "0.1 to <0.3"}, 0.65, source="measured", status=Status.LOW_N, half=0.1, n=30),
    cell({"brightness": "0.3 to 0.9"}, 0.85, source="measured"),
)
GAPS = (
    gap("site", "recorded", "site = ward [3]", "site = B", 0.21),
    gap("brightness", "measured", "brightness = 0.3 to 0.9", "brightness = 0.1 to <0.3", 0.04),
    gap("sex", "recorded", "sex = F", "sex = F", 0.0),
    gap("low_dose", "synthetic", "clean", "low_dose 3", 0.1),
)
AGAINST = Against(
    file="other.onnx", sha256="0", overall=paired(0.005), mce=None, relative_mce=None, by_condition={}
)  # fmt: skip
MEASURED = Measured(cells=CELLS, gaps=GAPS, against=AGAINST)


def judge(expr: str, found: Measured = MEASURED) -> Gate:
    return Requirement(expr, labels=LABELS).judge(found)


def known(**changes: Any) -> Known:
    values: dict[str, Any] = {
        "places": [(one.source, one.conditions) for one in CELLS if one.source != "measured"],
        "columns": ["site", "angle", "sex"],
        "later": ["brightness"],
        "other": True,
    }
    return Known(**(values | changes))


@pytest.mark.parametrize(
    ("expr", "observed", "outcome", "said"),
    [
        ("overall.accuracy >= 0.85", 0.85, "pass", "clean: accuracy 0.900 [0.850, 0.950], n = 400"),
        ("overall.accuracy >= 0.86", 0.85, "fail", "clean"),
        ("overall.accuracy <= 0.951", 0.95, "pass", "clean"),
        ("overall.accuracy <= 0.94", 0.95, "fail", "clean"),
        ("  overall.accuracy>=.5 ", 0.85, "pass", "clean"),
        ("overall.accuracy >= 8.5e-1", 0.85, "pass", "clean"),
        ("overall.brier <= 0.2", 0.18, "pass", "clean: brier 0.150 [0.120, 0.180]"),
        ("overall.brier <= 0.17", 0.18, "fail", "clean: brier"),
        ("worst.ece <= 0.05", 0.06, "fail", "low_dose 3: ece"),
        ("worst.accuracy >= 0.5", 0.55, "pass", "low_dose 3 × roll 5"),
        ("worst.sensitivity[handgun] >= 0.6", 0.55, "fail", "low_dose 3 × roll 5: sensitivity[handgun]"),
        ("worst.accuracy <= 0.9", 0.95, "fail", "roll 5"),
        ("worst[site].accuracy >= 0.4", 0.45, "pass", "site = B"),
        ("worst[site].accuracy >= 0.6", 0.45, "fail", "site = B"),
        ("worst[angle].accuracy >= 0.7", 0.67, "fail", "angle = -40 to <-20"),
        ("worst[sex, site].accuracy >= 0.6", 0.68, "pass", "site = Graz, north, sex = F"),
        ("worst[low_dose].accuracy >= 0.7", 0.75, "pass", "low_dose 3:"),
        (
            "mean.accuracy >= 0.7",
            0.7166667,
            "pass",
            "mean of 3 synthetic cells: accuracy 0.767 [0.717, 0.817], n = 400",
        ),
        ("mean.accuracy >= 0.75", 0.7166667, "fail", "mean of 3 synthetic cells"),
        ("mean.accuracy <= 0.82", 0.8166667, "pass", "mean of 3 synthetic cells"),
        ("condition[low_dose@3].accuracy >= 0.7", 0.75, "pass", "low_dose 3"),
        ("condition[low_dose@3,roll@5].accuracy >= 0.7", 0.55, "fail", "low_dose 3 × roll 5"),
        ("condition[roll@5, low_dose@3].accuracy >= 0.7", 0.55, "fail", "low_dose 3 × roll 5"),
        ("condition[low_dose@3 × roll@5].accuracy >= 0.7", 0.55, "fail", "low_dose 3 × roll 5"),
        ("condition[site=B].accuracy >= 0.4", 0.45, "pass", "site = B"),
        ("condition[site = B].accuracy >= 0.4", 0.45, "pass", "site = B"),
        ("condition[site=Graz, north].accuracy >= 0.4", 0.65, "pass", "site = Graz, north"),
        ("condition[sex=F,site=Graz, north].accuracy >= 0.4", 0.68, "pass", "site = Graz, north, sex = F"),
        ("condition[site=ward [3]].accuracy >= 0.4", 0.66, "pass", "site = ward [3]"),
        ("condition[angle=-40 to <-20].accuracy >= 0.4", 0.67, "pass", "angle = -40 to <-20"),
        ("condition[brightness=0.3 to 0.9].accuracy >= 0.79", 0.8, "pass", "brightness = 0.3 to 0.9"),
        ("overall.sensitivity[razor blade] >= 0.8", 0.85, "pass", "clean: sensitivity[razor blade]"),
        ("overall.sensitivity[a[1]] >= 0.8", 0.85, "pass", "clean: sensitivity[a[1]]"),
        ("condition[site=ward [3]].sensitivity[a[1]] >= 0.8", 0.66, "fail", "site = ward [3]: sensitivity[a[1]]"),
        ("gap[site].accuracy <= 0.25", 0.24, "pass", "site = ward [3] less site = B: accuracy 0.210"),
        ("gap[site].accuracy <= 0.05", 0.24, "fail", "site = ward [3] less site = B"),
        ("gap[low_dose].accuracy <= 0.13", 0.13, "pass", "clean less low_dose 3"),
        ("gap[low_dose].accuracy >= -0.5", 0.07, "pass", "clean less low_dose 3"),
        ("against.accuracy >= -0.02", -0.015, "pass", "clean, this model less the other: accuracy 0.005"),
        ("against.accuracy >= -0.01", -0.015, "fail", "clean, this model less the other"),
        ("against.worst.accuracy >= -0.08", -0.07, "pass", "low_dose 3 × roll 5, this model less the other"),
        ("against.worst.accuracy >= -0.02", -0.07, "fail", "low_dose 3 × roll 5, this model less the other"),
        ("against.condition[low_dose@3].accuracy >= 0", 0.02, "pass", "low_dose 3, this model less the other"),
        ("against.condition[site=B].accuracy >= -0.02", -0.03, "fail", "site = B, this model less the other"),
    ],
)
def test_a_gate_holds_the_bound_of_its_cell_against_the_threshold(
    expr: str, observed: float, outcome: str, said: str
) -> None:
    requirement = Requirement(expr, labels=LABELS)
    requirement.check(known())
    gate = requirement.judge(MEASURED)
    assert gate.observed == pytest.approx(observed)
    assert gate.outcome == outcome
    assert gate.detail.startswith(said)
    assert gate.expr == expr.strip()
    assert gate.bound == ("high" if "<=" in expr.rpartition("]")[2] else "low")


def test_the_lower_bound_decides_and_not_the_value() -> None:
    assert judge("overall.accuracy >= 0.88").outcome == "fail"


def test_the_bound_of_a_mean_says_how_it_was_made() -> None:
    assert judge("mean.accuracy >= 0.7").detail.endswith("the bound is the mean of the cells' lower bounds")
    assert judge("mean.accuracy <= 0.9").detail.endswith("the bound is the mean of the cells' upper bounds")


@pytest.mark.parametrize(
    ("status", "threshold", "outcome"),
    [
        (Status.LOW_N, 0.7, "pass"),  # even the lower bound reaches it
        (Status.LOW_N, 0.9, "insufficient"),  # the interval straddles it
        (Status.LOW_N, 0.98, "fail"),  # even the upper bound falls short
        (Status.OK, 0.9, "fail"),  # enough images, and not shown to hold
    ],
)
@pytest.mark.parametrize("place", ["overall", "worst", "mean", "condition[site=B]", "worst[site]"])
def test_few_images_and_a_straddling_interval_are_insufficient(
    place: str, status: Status, threshold: float, outcome: str
) -> None:
    few: dict[str, Any] = {"half": 0.1, "status": status, "n": 30}
    cells = (cell({"roll": 1}, 0.85, **few), cell({"site": "B"}, 0.85, source="recorded", **few))
    gate = judge(f"{place}.accuracy >= {threshold}", Measured(evidence(0.85, **few), cells))
    assert gate.outcome == outcome
    assert ("too few images to tell" in gate.detail) == (outcome == "insufficient")


@pytest.mark.parametrize(
    ("status", "threshold", "outcome"), [(Status.LOW_N, 0.05, "insufficient"), (Status.OK, 0.05, "fail")]
)
def test_a_gap_and_a_difference_have_few_images_where_their_cells_do(
    status: Status, threshold: float, outcome: str
) -> None:
    cells = (
        cell({"site": "A"}, 0.9, source="recorded"),
        cell({"site": "B"}, 0.85, source="recorded", status=status, against=-0.06, n=30),
    )
    found = Measured(cells=cells, gaps=(gap("site", "recorded", "site = A", "site = B", 0.06),))
    gate = judge(f"gap[site].accuracy <= {threshold}", found)
    assert gate.outcome == outcome
    assert "n = 400 and 30" in gate.detail
    assert judge(f"against.worst[site].accuracy >= -{threshold}", Measured(cells=cells[1:])).outcome == outcome


@pytest.mark.parametrize(
    ("expr", "detail"),
    [
        ("condition[sex=M].accuracy >= 0.1", "sex = M: accuracy is undefined (n = 4)"),
        ("worst[sex].accuracy >= 0.1", "sex = M: accuracy is undefined (n = 4)"),
        ("gap[sex].accuracy <= 0.9", "sex = M: accuracy is undefined (n = 4)"),
        (
            "gap[angle].accuracy <= 0.9",
            "the gap of angle: accuracy is undefined (fewer than two cells can be compared)",
        ),
        ("overall.auroc[handgun] >= 0.1", "clean: auroc[handgun] is undefined (n = 400)"),
        (
            "against.balanced_accuracy >= -1",
            "clean, this model less the other: balanced_accuracy is undefined (n = 400)",
        ),
        ("mean.macro_f1 >= 0", "mean of 3 synthetic cells: macro_f1 is undefined (low_dose 3: n = 400)"),
    ],
)  # fmt: skip
def test_what_is_undefined_is_insufficient_and_observes_nothing(expr: str, detail: str) -> None:
    gate = judge(expr)
    assert (gate.outcome, gate.observed, gate.detail) == ("insufficient", None, detail)


def test_a_cell_that_fails_decides_over_one_without_evidence() -> None:
    gate = judge("worst[sex].accuracy >= 0.8")
    assert (gate.outcome, gate.detail[:7]) == ("fail", "sex = F")


def test_a_cell_with_enough_images_that_fails_decides_over_a_worse_one_with_few() -> None:
    cells = (cell({"roll": 1}, 0.82), cell({"roll": 2}, 0.8, half=0.2, status=Status.LOW_N, n=20))
    gate = judge("worst.accuracy >= 0.8", Measured(cells=cells))
    assert (gate.outcome, gate.detail[:7]) == ("fail", "roll 1:")
    assert judge("worst.accuracy >= 0.75", Measured(cells=cells)).outcome == "insufficient"


@pytest.mark.parametrize("place", ["worst", "mean", "worst[site]", "gap[site]", "against"])
def test_without_any_cell_there_is_no_evidence(place: str) -> None:
    gate = judge(f"{place}.accuracy >= 0", Measured())
    assert (gate.outcome, gate.observed) == ("insufficient", None)


def test_a_recorded_column_is_meant_before_a_condition_of_the_same_name() -> None:
    cells = (cell({"roll": 5}, 0.3), cell({"roll": "yes"}, 0.9, source="recorded"))
    gaps = (gap("roll", "synthetic", "clean", "roll 5", 0.9), gap("roll", "recorded", "roll = yes", "roll = no", 0.1))
    found = Measured(cells=cells, gaps=gaps)
    assert judge("worst[roll].accuracy >= 0.8", found).outcome == "pass"
    assert judge("gap[roll].accuracy <= 0.2", found).outcome == "pass"
    assert judge("condition[roll@5].accuracy >= 0.8", found).outcome == "fail"


@pytest.mark.parametrize("value", [(math.nan,) * 3, (0.9, math.nan, 1.0), (0.9, 0.85, math.nan), (math.nan, 0.9, 0.95)])
@pytest.mark.parametrize("relation", [">= 0", "<= 1"])
def test_no_number_never_passes(value: tuple[float, float, float], relation: str) -> None:
    bad = Estimate(**dict(zip(("value", "low", "high"), value, strict=True)), method="wilson")
    here = Evidence(n=400, groups=400, status=Status.OK, metrics={"accuracy": bad})
    cells = (cell({"roll": 1}, 0.9), cell({"roll": 2}, 0.9).model_copy(update={"metrics": {"accuracy": bad}}))
    gaps = (gap("roll", "synthetic", "clean", "roll 2", 0.1).model_copy(update={"metrics": {"accuracy": bad}}),)
    for place in ("overall", "worst", "mean", "condition[roll@2]", "gap[roll]"):
        gate = judge(f"{place}.accuracy {relation}", Measured(here, cells, gaps))
        assert (gate.outcome, gate.observed) == ("insufficient", None), place


SHARES = st.floats(0, 1)
SOME = st.lists(
    st.tuples(SHARES, st.floats(0, 0.3), st.sampled_from([Status.OK, Status.LOW_N, Status.UNDEFINED])),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(
    SOME,
    st.sampled_from(["overall", "worst", "mean", "worst[site]", "gap[site]", "against.worst", "condition[site=0]"]),
    st.sampled_from([">=", "<="]),
    SHARES,
    SHARES,
)
def test_a_tighter_threshold_never_makes_an_outcome_better(
    some: list[tuple[float, float, Status]], place: str, relation: str, one: float, other: float
) -> None:
    loose, tight = sorted((one, other), reverse=relation == "<=")
    more: list[dict[str, Any]] = [{"half": half, "status": status, "against": value} for value, half, status in some]
    cells = [cell({"roll": index}, value, **more[index]) for index, (value, _, _) in enumerate(some)]
    cells += [
        cell({"site": f"{index}"}, value, source="recorded", **more[index]) for index, (value, _, _) in enumerate(some)
    ]
    value, half, status = some[0]
    gaps = (gap("site", "recorded", "site = 0", "site = 0", value, half=half),)
    found = Measured(evidence(value, half=half, status=status), cells, gaps)
    outcomes = [judge(f"{place}.accuracy {relation} {threshold!r}", found).outcome for threshold in (loose, tight)]
    assert RANK[outcomes[1]] <= RANK[outcomes[0]]


@settings(deadline=None)
@given(SOME, st.sampled_from([">=", "<="]), SHARES)
def test_the_worst_passes_where_every_cell_does_and_fails_where_any_does(
    some: list[tuple[float, float, Status]], relation: str, threshold: float
) -> None:
    cells = [cell({"roll": index}, value, half=half, status=status) for index, (value, half, status) in enumerate(some)]
    end = f"accuracy {relation} {threshold!r}"
    each = [judge(f"condition[roll@{index}].{end}", Measured(cells=cells)).outcome for index in range(len(cells))]
    assert judge(f"worst.{end}", Measured(cells=cells)).outcome == min(each, key=lambda outcome: RANK[outcome])


@pytest.mark.parametrize(
    "expr",
    [
        "",
        "accuracy",
        "accuracy >= 0.8",
        "overall.accuracy > 0.8",
        "overall.accuracy == 0.8",
        "overall.accuracy >= 80%",
        "overall.accuracy >= ",
        "best.accuracy >= 0.8",
        "condition.accuracy >= 0.8",
        "condition[].accuracy >= 0.8",
        "gap.accuracy <= 0.8",
        "overall[site].accuracy >= 0.8",
        "against.gap[site].accuracy >= 0.1",
        "against.mean.accuracy >= 0.1",
        "overall.accuracy >= 0.8 and more",
        "overall.accuracy >= nan",
        "overall.accuracy >= inf",
    ],
)
def test_what_is_no_requirement_is_told_with_one_that_is(expr: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Requirement(expr, labels=LABELS)
    before, _, example = str(caught.value).partition(": not a requirement; write for example ")
    assert before == f"--require {expr!r}"
    Requirement(example.strip("'"), labels=LABELS)


@pytest.mark.parametrize(
    ("expr", "example"),
    [
        ("", EXAMPLE),
        ("gap.accuracy <= 0.8", "gap[site].accuracy <= 0.05"),
        ("condition.accuracy >= 0.8", "condition[low_dose@3].accuracy >= 0.8"),
        ("overal.accuracy > 0.9", "overall.accuracy >= 0.8"),
    ],
)
def test_the_example_is_of_the_nearest_form(expr: str, example: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Requirement(expr, labels=LABELS)
    assert str(caught.value).endswith(f"write for example {example!r}")


@pytest.mark.parametrize(
    ("expr", "end"),
    [
        ("worst.acuracy >= 0.8", "no metric 'acuracy'; did you mean 'accuracy'?"),
        ("worst.sensitivity[handgin] >= 0.8", "did you mean 'sensitivity[handgun]'?"),
        ("overall.auroc[hand gun] >= 0.8", "did you mean 'auroc[handgun]'?"),
        ("gap[site].sensitivity[handgun] <= 0.1", "there are: accuracy, balanced_accuracy"),
        ("against.brier <= 0.1", "no metric 'brier'; there are: accuracy, balanced_accuracy"),
    ],
)
def test_an_unknown_metric_is_told_with_the_nearest_one(expr: str, end: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Requirement(expr, labels=LABELS)
    assert str(caught.value).startswith(f"--require {expr!r}: no metric ")
    assert str(caught.value).endswith(end)


@pytest.mark.parametrize(
    ("place", "threshold", "within"),
    [
        ("overall", "80", "0 to 1"),
        ("overall", "1.01", "0 to 1"),
        ("worst[site]", "-0.1", "0 to 1"),
        ("gap[site]", "5", "-1 to 1"),
        ("against", "-1.5", "-1 to 1"),
        ("against.worst", "1e999", "-1 to 1"),
    ],
)
def test_a_threshold_that_nothing_can_reach_is_refused(place: str, threshold: str, within: str) -> None:
    with pytest.raises(ConfigError, match=f"{float(threshold):g} is not within {within}; "):
        Requirement(f"{place}.accuracy >= {threshold}", labels=LABELS)


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("low_dosis@3", "did you mean 'low_dose@3'?"),
        ("low_dose@2", "did you mean 'low_dose@3'?"),
        ("site=D", "did you mean 'site="),
        ("site=B,sex=F", "did you mean '"),
        ("zzzz", "there are: low_dose@3, roll@5, site=B"),
    ],
)
def test_an_unknown_cell_is_told_before_anything_is_measured(which: str, said: str) -> None:
    requirement = Requirement(f"condition[{which}].accuracy >= 0.8", labels=LABELS)
    with pytest.raises(ConfigError) as before:
        requirement.check(known())
    assert f"no cell {which!r}; {said}" in str(before.value)
    after = requirement.judge(MEASURED)
    assert (after.outcome, after.observed) == ("insufficient", None)
    assert f"no cell {which!r}" in after.detail


def test_a_bin_that_is_known_only_later_is_insufficient_where_it_does_not_turn_up() -> None:
    requirement = Requirement("condition[brightness=0.7 to 0.9].accuracy >= 0.8", labels=LABELS)
    requirement.check(known())
    gate = requirement.judge(MEASURED)
    assert gate.outcome == "insufficient"
    assert gate.detail.endswith("(no cell 'brightness=0.7 to 0.9'; did you mean 'brightness=0.3 to 0.9'?)")
    Requirement("worst[brightness].accuracy >= 0.1", labels=LABELS).check(known())
    Requirement("gap[brightness].accuracy <= 0.1", labels=LABELS).check(known())
    with pytest.raises(ConfigError, match="no cell"):
        requirement.check(known(later=[]))


@pytest.mark.parametrize(
    ("expr", "changes", "said"),
    [
        ("worst[sitee].accuracy >= 0.8", {}, "no column or condition 'sitee'; did you mean 'site'?"),
        ("gap[sit].accuracy <= 0.8", {}, "no column or condition 'sit'; did you mean 'site'?"),
        ("gap[site,sex].accuracy <= 0.8", {}, "no column or condition 'site,sex'; did you mean 'site'?"),
        ("worst[angle,sex].accuracy >= 0.8", {}, "no column or condition 'angle,sex'; did you mean '"),
        ("against.accuracy >= 0", {"other": False}, "there is no other model; name one with --against"),
        ("worst.accuracy >= 0", {"places": []}, "no synthetic condition is measured; name a column: worst[site]"),
        ("mean.accuracy >= 0", {"places": [("recorded", {"site": "B"})]}, "no synthetic condition is measured"),
        ("condition[a=1].accuracy >= 0", {"places": [], "columns": [], "later": []}, "no cell 'a=1'; there are"),
    ],
)
def test_what_will_not_be_measured_is_told_before(expr: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Requirement(expr, labels=LABELS).check(known(**changes))
    assert str(caught.value).startswith(f"--require {expr!r}: {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        (["pass", "pass"], 0),
        (["pass", "insufficient"], 3),
        (["insufficient", "fail"], 1),
        (["fail", "insufficient", "pass"], 1),
    ],
)
def test_a_failed_gate_beats_one_without_evidence(outcomes: list[str], code: int) -> None:
    gates = [
        Gate.checked({"expr": "", "bound": "low", "observed": 0, "outcome": outcome, "detail": ""}, where="test")
        for outcome in outcomes
    ]
    assert exit_code(gates) == code


def test_cells_are_named_in_words() -> None:
    assert [name_of(one.conditions, one.source) for one in CELLS[1:4]] == ["low_dose 3 × roll 5", "roll 5", "site = B"]
