"""The summary: short, complete, in an order that a reviewer reads, and safe with any name."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging_ft.report.result import Gate, Report
from imaging_ft.report.summary import to_markdown
from tests.report.rich import rich_report
from tests.report.test_page import HOSTILE, VARIANTS, fake_report

LABELS = [f"class_with_a_long_name_{number}" for number in range(10)]


def bars(line: str) -> int:
    """Return how many cells end on a line of a table."""
    return len(re.findall(r"(?<!\\)\|", line))


def tables(text: str) -> list[list[str]]:
    """Return the lines of each table."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    return [[line for line in lines if line.startswith("|")] for lines in blocks if lines[0].startswith("|")]


@pytest.mark.parametrize(
    "report", [*VARIANTS.values(), rich_report(labels=LABELS, positive=LABELS)], ids=[*VARIANTS, "ten classes"]
)
def test_the_summary_is_short_and_its_tables_are_whole(report: Report) -> None:
    text = to_markdown(report)
    assert len(text.splitlines()) < 60
    for table in tables(text):
        assert len({bars(line) for line in table}) == 1
        assert re.fullmatch(r"(\|[-:]+)+\|", table[1])


def test_many_gates_stay_short_and_the_failed_ones_come_first() -> None:
    gates = [
        Gate(expr=f"condition[roll@{at}].accuracy >= 0.9", bound="low", observed=0.95, outcome="pass", detail="")
        for at in range(40)
    ]
    failed = Gate(expr="worst.accuracy >= 0.8", bound="low", observed=0.4, outcome="fail", detail="")
    text = to_markdown(rich_report().model_copy(update={"gates": [*gates, failed]}))
    assert len(text.splitlines()) < 60
    (table, *_) = tables(text)
    assert table[2].startswith("| **fail** | `worst.accuracy >= 0.8` | 0.400 |")
    assert "33 more: 33 pass" in table[-1]


def test_verdict_gates_overall_worst_cells_and_the_other_model_are_there() -> None:
    text = to_markdown(rich_report())
    assert text.startswith("### model.onnx on baggage: failed\n")
    assert "4 gates: 1 failed, 1 with too little evidence to judge, 2 passed." in text
    assert "| Sensitivity, handgun | 0.970 | [0.938, 1.000] |" in text
    assert "| Brier score (smaller is better) |" in text
    (worst,) = [table for table in tables(text) if "Worst synthetic" in table[0]]
    assert len(worst) == 2 + 5
    assert worst[2].startswith("| low_dose 5 × roll 5 | 0.670 |".replace("_", r"\_"))
    (observed,) = [table for table in tables(text) if "recorded and measured" in table[0]]
    assert "1 with too few images to say" in observed[0]
    assert observed[2].endswith("| 40 (low n) |")
    assert "**Beside baseline.onnx**: on the clean images this model is better: accuracy +0.021" in text
    assert "2 warnings." in text


def test_a_report_without_gates_or_another_model_speaks_of_neither() -> None:
    text = to_markdown(fake_report(with_gates=False))
    assert "| gate |" not in text
    assert "Beside" not in text
    assert text.startswith("### model.onnx on baggage: measured\n")


@settings(max_examples=60, deadline=None)
@given(name=st.text(max_size=90))
def test_no_name_breaks_a_table_or_becomes_markup(name: str) -> None:
    report = rich_report(severities=(1,), pairs=())
    cells = [
        cell.model_copy(update={"conditions": {"site": name}}) if cell.source == "recorded" else cell
        for cell in report.cells
    ]
    text = to_markdown(report.model_copy(update={"cells": cells}))
    assert len(text.splitlines()) < 60
    for table in tables(text):
        assert len({bars(line) for line in table}) == 1


def test_markup_in_names_stays_text() -> None:
    report = rich_report(labels=(HOSTILE, "@someone"), positive=(HOSTILE, "@someone"))
    text = to_markdown(report)
    assert "<script" not in text.replace(r"\<script", "")
    assert "@someone" not in text
