"""Gates: what an expression means, what it is held against, and what a wrong one is told."""

import pytest

from imaging_ft.errors import ConfigError
from imaging_ft.report.gates import EXAMPLE, Requirement, exit_code, name_of
from imaging_ft.report.result import Cell, Estimate, Evidence, Gate
from imaging_ft.types import Status

LABELS = ["handgun", "razor blade", "a[1]"]
METRICS = ["accuracy", "balanced_accuracy", *(f"sensitivity[{label}]" for label in LABELS)]


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, method="wilson")


def evidence(value: float, *, half: float = 0.05, status: Status = Status.OK, n: int = 400) -> Evidence:
    metrics = {} if status is Status.UNDEFINED else {name: estimate(value, half) for name in METRICS}
    return Evidence(n=n, groups=n, status=status, metrics=metrics)


def cell(conditions: dict[str, int | str], value: float, *, source: str = "synthetic", **more) -> Cell:
    found = evidence(value, **more)
    return Cell.checked(
        {**found.model_dump(), "source": source, "conditions": conditions, "axes": list(conditions)}, where="test"
    )


CELLS = [
    cell({"low_dose": 3}, 0.8),
    cell({"low_dose": 3, "roll": 5}, 0.6),
    cell({"roll": 5}, 0.9),
    cell({"site": "B"}, 0.5, source="recorded"),
    cell({"site": "Graz, north"}, 0.7, source="recorded"),
    cell({"site": "ward [3]"}, 0.71, source="recorded"),
    cell({"angle": "-40 to <-20"}, 0.72, source="recorded"),
    cell({"site": "C"}, 0.3, source="recorded", status=Status.UNDEFINED, n=4),
]


def judge(expr: str, *, overall: Evidence | None = None) -> Gate:
    return Requirement(expr, metrics=METRICS).judge(overall or evidence(0.9), CELLS)


def known() -> list[tuple[str, dict[str, int | str]]]:
    return [(one.source, one.conditions) for one in CELLS]


@pytest.mark.parametrize(
    ("expr", "observed", "outcome", "said"),
    [
        ("overall.accuracy >= 0.85", 0.85, "pass", "clean: accuracy 0.900 [0.850, 0.950], n = 400"),
        ("overall.accuracy >= 0.86", 0.85, "fail", "clean"),
        ("overall.accuracy <= 0.951", 0.95, "pass", "clean"),
        ("overall.accuracy <= 0.94", 0.95, "fail", "clean"),
        ("  overall.accuracy>=.5 ", 0.85, "pass", "clean"),
        ("overall.accuracy >= 8.5e-1", 0.85, "pass", "clean"),
        ("worst.accuracy >= 0.5", 0.55, "pass", "low_dose 3 × roll 5"),
        ("worst.sensitivity[handgun] >= 0.6", 0.55, "fail", "low_dose 3 × roll 5: sensitivity[handgun]"),
        ("worst.accuracy <= 0.9", 0.95, "fail", "roll 5"),
        ("condition[low_dose@3].accuracy >= 0.7", 0.75, "pass", "low_dose 3"),
        ("condition[low_dose@3,roll@5].accuracy >= 0.7", 0.55, "fail", "low_dose 3 × roll 5"),
        ("condition[roll@5, low_dose@3].accuracy >= 0.7", 0.55, "fail", "low_dose 3 × roll 5"),
        ("condition[low_dose@3 × roll@5].accuracy >= 0.7", 0.55, "fail", "low_dose 3 × roll 5"),
        ("condition[site=B].accuracy >= 0.4", 0.45, "pass", "site = B"),
        ("condition[site = B].accuracy >= 0.4", 0.45, "pass", "site = B"),
        ("condition[site=Graz, north].accuracy >= 0.4", 0.65, "pass", "site = Graz, north"),
        ("condition[site=ward [3]].accuracy >= 0.4", 0.66, "pass", "site = ward [3]"),
        ("condition[angle=-40 to <-20].accuracy >= 0.4", 0.67, "pass", "angle = -40 to <-20"),
        ("overall.sensitivity[razor blade] >= 0.8", 0.85, "pass", "clean: sensitivity[razor blade]"),
        ("overall.sensitivity[a[1]] >= 0.8", 0.85, "pass", "clean: sensitivity[a[1]]"),
        ("condition[site=ward [3]].sensitivity[a[1]] >= 0.8", 0.66, "fail", "site = ward [3]: sensitivity[a[1]]"),
    ],
)
def test_a_gate_holds_the_bound_of_its_cell_against_the_threshold(
    expr: str, observed: float, outcome: str, said: str
) -> None:
    gate = judge(expr)
    assert gate.observed == pytest.approx(observed)
    assert gate.outcome == outcome
    assert gate.detail.startswith(said)
    assert gate.expr == expr.strip()
    assert gate.bound == ("high" if "<=" in expr.rpartition("]")[2] else "low")


def test_the_lower_bound_decides_and_not_the_value() -> None:
    assert judge("overall.accuracy >= 0.88").outcome == "fail"


@pytest.mark.parametrize(
    ("status", "threshold", "outcome"),
    [
        (Status.LOW_N, 0.7, "pass"),  # even the lower bound reaches it
        (Status.LOW_N, 0.9, "insufficient"),  # the interval straddles it
        (Status.LOW_N, 0.98, "fail"),  # even the upper bound falls short
        (Status.OK, 0.9, "fail"),  # enough images, and not shown to hold
    ],
)
def test_few_images_and_a_straddling_interval_are_insufficient(status: Status, threshold: float, outcome: str) -> None:
    gate = judge(f"overall.accuracy >= {threshold}", overall=evidence(0.85, half=0.1, status=status, n=30))
    assert gate.outcome == outcome
    assert ("too few images to tell" in gate.detail) == (outcome == "insufficient")


def test_an_undefined_cell_is_insufficient_and_observes_nothing() -> None:
    gate = judge("condition[site=C].accuracy >= 0.1")
    assert (gate.outcome, gate.observed) == ("insufficient", None)
    assert gate.detail == "site = C: accuracy is undefined (n = 4)"


def test_the_worst_is_looked_for_among_synthetic_cells_alone() -> None:
    assert judge("worst.accuracy >= 0.5").detail.startswith("low_dose 3 × roll 5")


def test_where_every_synthetic_cell_is_undefined_the_worst_is_insufficient() -> None:
    cells = [cell({"roll": 1}, 0.9, status=Status.UNDEFINED, n=5)]
    assert Requirement(EXAMPLE, metrics=METRICS).judge(evidence(0.9), cells).outcome == "insufficient"


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
        "overall.accuracy >= 0.8 and more",
        "overall.accuracy >= nan",
    ],
)
def test_what_is_no_requirement_is_told_with_an_example(expr: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Requirement(expr, metrics=METRICS)
    assert str(caught.value) == f"--require {expr!r}: not a requirement; write for example {EXAMPLE!r}"
    Requirement(EXAMPLE, metrics=METRICS)


@pytest.mark.parametrize(
    ("metric", "meant"),
    [("acuracy", "accuracy"), ("sensitivity[handgin]", "sensitivity[handgun]"), ("sensitivity", None)],
)
def test_an_unknown_metric_is_told_with_the_nearest_one(metric: str, meant: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        Requirement(f"worst.{metric} >= 0.8", metrics=METRICS)
    assert f"no metric {metric!r}; " in str(caught.value)
    assert meant is None or str(caught.value).endswith(f"did you mean {meant!r}?")


@pytest.mark.parametrize("threshold", ["80", "1.01", "-0.1"])
def test_a_threshold_that_no_share_can_have_is_refused(threshold: str) -> None:
    with pytest.raises(ConfigError, match=f"{threshold} is not within 0 to 1"):
        Requirement(f"overall.accuracy >= {threshold}", metrics=METRICS)


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("low_dosis@3", "did you mean 'low_dose@3'?"),
        ("low_dose@2", "did you mean 'low_dose@3'?"),
        ("site=D", "did you mean 'site="),
        ("zzzz", "there are: low_dose@3, roll@5, site=B"),
    ],
)
def test_an_unknown_cell_is_told_before_and_after_measuring(which: str, said: str) -> None:
    requirement = Requirement(f"condition[{which}].accuracy >= 0.8", metrics=METRICS)
    with pytest.raises(ConfigError) as before:
        requirement.check(known())
    with pytest.raises(ConfigError) as after:
        requirement.judge(evidence(0.9), CELLS)
    assert str(before.value) == str(after.value)
    assert f"no cell {which!r}; {said}" in str(before.value)


def test_every_known_cell_passes_the_check() -> None:
    for place in ("overall", "worst", "condition[roll@5]", "condition[roll@5,low_dose@3]", "condition[site=C]"):
        Requirement(f"{place}.accuracy >= 0.8", metrics=METRICS).check(known())


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
    assert [name_of(one) for one in CELLS[1:4]] == ["low_dose 3 × roll 5", "roll 5", "site = B"]
