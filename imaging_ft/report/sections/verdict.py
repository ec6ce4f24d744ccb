"""The first words of the page: what was found, and what became of the gates."""

from collections.abc import Sequence

from imaging_ft.report.result import Gate, Report
from imaging_ft.report.wording import interval, name_of, number
from imaging_ft.types import Task


def multilabel(report: Report) -> bool:
    """Return whether an image may show several of the labels."""
    return report.model.task == Task.MULTILABEL


def verdict(report: Report) -> str:
    """Return one sentence: accuracy on the clean images, and how far the worst condition lowers it."""
    clean, worst = report.overall.metrics.get("accuracy"), report.worst
    what = f"Accuracy{' (every label right)' if multilabel(report) else ''} on the clean images"
    if clean is None:
        return f"{what}: too few to say (n = {report.overall.n})."
    start = f"{what} {number(clean.value)} {interval(clean)}"
    if not any(cell.source == "synthetic" for cell in report.cells):
        return f"{start}; no synthetic condition was measured."
    if worst is None or "accuracy" not in worst.metrics:
        return f"{start}; under every synthetic condition there are too few images to say."
    lowest = worst.metrics["accuracy"]
    verb = "falls to" if lowest.value < clean.value else "no synthetic condition lowers it: at worst"
    return f"{start}; {verb} {number(lowest.value)} {interval(lowest)} under {name_of(worst.conditions)}."


def verdict_kind(gates: Sequence[Gate]) -> str:
    """Return the gravest outcome among the gates, or `none` without gates."""
    outcomes = {gate.outcome for gate in gates}
    return next((kind for kind in ("fail", "insufficient", "pass") if kind in outcomes), "none")


def gate_summary(gates: Sequence[Gate]) -> str:
    """Return one sentence on how many gates passed, failed, or can't be judged."""
    if not gates:
        return "No gate was set: this page states what was measured, and neither accepts nor refuses the model."
    counts = {kind: sum(gate.outcome == kind for gate in gates) for kind in ("pass", "fail", "insufficient")}
    total = "The only gate" if len(gates) == 1 else f"{len(gates)} gates"
    if counts["pass"] == len(gates):
        return "The only gate passed." if len(gates) == 1 else f"All {total} passed."
    if len(gates) == 1:
        return f"{total} {'failed' if counts['fail'] else 'can’t be judged: too little evidence'}."
    parts = [f"{counts['fail']} failed", f"{counts['insufficient']} with too little evidence to judge"]
    return f"{total}: {', '.join(part for part in parts if part[0] != '0')}, {counts['pass']} passed."
