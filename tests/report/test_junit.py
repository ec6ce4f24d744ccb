"""JUnit XML of the gates, as a CI system reads it."""

from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from imaging_ft.report.junit import to_junit
from imaging_ft.report.result import Gate, Report
from tests.report.rich import rich_report

OUTCOMES = ["pass", "fail", "insufficient", "pass", "insufficient", "insufficient"]


def gate(outcome: str, **changes: Any) -> Gate:
    values = {"expr": f"worst.accuracy >= 0.8 ({outcome})", "bound": "low", "observed": 0.7, "detail": "roll 5: n = 40"}
    return Gate.checked({**values, "outcome": outcome, **changes}, where="test")


def read(gates: list[Gate]) -> tuple[Report, Element]:
    report = rich_report().model_copy(update={"gates": gates})
    return report, fromstring(to_junit(report).encode())


def test_the_counts_are_those_of_the_gates() -> None:
    _, root = read([gate(outcome) for outcome in OUTCOMES])
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    for counted in (root, suite):
        assert (counted.get("tests"), counted.get("failures"), counted.get("errors")) == ("6", "1", "3")
    assert suite.get("skipped") == "0"
    cases = suite.findall("testcase")
    assert [case.get("name", "").rpartition("(")[2].rstrip(")") for case in cases] == OUTCOMES
    assert len(suite.findall("testcase/failure")) == 1
    assert len(suite.findall("testcase/error")) == 3
    assert next(child.tag for child in suite) == "properties"


@pytest.mark.parametrize(("outcome", "tag"), [("pass", None), ("fail", "failure"), ("insufficient", "error")])
def test_a_gate_that_has_not_passed_says_why_and_is_never_green(outcome: str, tag: str | None) -> None:
    _, root = read([gate(outcome)])
    (case,) = root.iter("testcase")
    found = [child for child in case if child.tag in {"failure", "error", "skipped"}]
    assert [child.tag for child in found] == ([tag] if tag else [])
    for child in found:
        assert child.get("message") == "roll 5: n = 40"
        assert child.get("type") == outcome
        assert child.text == f"worst.accuracy >= 0.8 ({outcome})\nroll 5: n = 40"
    assert case.get("time") == "0"


def test_it_names_the_model_and_the_data_that_were_judged() -> None:
    report, root = read([gate("pass")])
    properties = {one.get("name"): one.get("value") for one in root.iter("property")}
    assert properties["model.sha256"] == report.model.sha256
    assert properties["dataset.fingerprint"] == report.dataset.fingerprint
    assert report.against is not None
    assert properties["against.sha256"] == report.against.sha256
    (suite,) = root
    assert suite.get("timestamp") == report.created[:19]


def test_names_that_xml_does_not_take_are_written_all_the_same() -> None:
    expr, detail = 'worst.sensitivity[<"a" & \x00b\ud800>] >= 0.8', "\x1b[31m<é>"
    _, root = read([gate("fail", expr=expr, detail=detail)])
    (case,) = root.iter("testcase")
    assert case.get("name") == 'worst.sensitivity[<"a" & \ufffdb\ufffd>] >= 0.8'
    assert case[0].get("message") == "\ufffd[31m<é>"


def test_without_gates_it_is_an_empty_suite_and_the_same_report_is_the_same_text() -> None:
    report, root = read([])
    assert [one.get("tests") for one in root.iter("testsuite")] == ["0"]
    assert not list(root.iter("testcase"))
    assert to_junit(report) == to_junit(report)
