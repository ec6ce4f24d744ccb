"""The gates as JUnit XML, which Jenkins, GitLab and most other CI systems read."""

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from imaging_ft.report.result import Report

_KINDS = {"fail": "failure", "insufficient": "error"}
"""What a gate becomes that hasn't passed: an assertion that didn't hold, or one that couldn't be decided."""
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML 1.0 document may hold, escaped or not."""


def to_junit(report: Report) -> str:
    """Return a report's gates as JUnit XML: a test suite with a test case for each gate.

    A gate that failed is a `failure`, and one without enough evidence an `error`, so that no CI system takes it for a
    success; both say what was observed. The suite's properties hold the SHA-256 of the model and the fingerprint of
    the data. Nothing is timed: every `time` is 0.
    """
    counts = {kind: sum(_KINDS.get(gate.outcome) == kind for gate in report.gates) for kind in ("failure", "error")}
    totals = {
        "name": "imaging-ft gates",
        "tests": f"{len(report.gates)}",
        "failures": f"{counts['failure']}",
        "errors": f"{counts['error']}",
        "time": "0",
    }
    root = Element("testsuites", totals)
    # The schemas that CI systems publish take a timestamp without a zone.
    suite = SubElement(root, "testsuite", {**totals, "skipped": "0", "timestamp": report.created[:19]})
    properties = SubElement(suite, "properties")
    for name, value in {
        "tool": report.tool,
        "model.file": report.model.file,
        "model.sha256": report.model.sha256,
        "model.backbone": report.model.backbone,
        "dataset.name": report.dataset.name,
        "dataset.split": report.dataset.split,
        "dataset.fingerprint": report.dataset.fingerprint,
        "dataset.n": f"{report.dataset.n}",
        "suite": report.suite,
        **({"against.sha256": report.against.sha256} if report.against else {}),
    }.items():
        SubElement(properties, "property", {"name": name, "value": _clean(value)})
    for gate in report.gates:
        # GitLab tells test cases apart by class and name.
        named = {"classname": _clean(f"gates.{report.dataset.name}"), "name": _clean(gate.expr), "time": "0"}
        case = SubElement(suite, "testcase", named)
        if gate.outcome in _KINDS:
            why = {"type": gate.outcome, "message": _clean(gate.detail)}
            SubElement(case, _KINDS[gate.outcome], why).text = _clean(f"{gate.expr}\n{gate.detail}")
        else:
            SubElement(case, "system-out").text = _clean(gate.detail)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
