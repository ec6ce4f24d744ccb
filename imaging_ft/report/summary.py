"""The report in short, as GitHub-flavoured Markdown: for the comment on a pull request."""

import re
from collections.abc import Iterable

from imaging_ft.report.result import Cell, Estimate, Report
from imaging_ft.report.sections.cells import worst_first
from imaging_ft.report.sections.comparison import sentence
from imaging_ft.report.sections.verdict import gate_summary, verdict, verdict_kind
from imaging_ft.report.wording import (
    SMALLER_IS_BETTER,
    interval,
    metric_title,
    name_of,
    number,
    p_value,
    plural,
    signed,
    signed_interval,
)

_TITLES = {"pass": "passed", "fail": "failed", "insufficient": "not enough evidence", "none": "measured"}
_SUMMARIES = ("accuracy", "balanced_accuracy", "macro_f1", "brier", "ece", "rejected", "accuracy_answered")
_MOST_GATES = 8
_MOST_POSITIVE = 3
_WORST = 5
_WORST_OBSERVED = 3
_WIDEST = 60
"""More characters than so many of one name are cut: a comment is about 90 characters wide."""


def to_markdown(report: Report) -> str:
    """Return the summary, under 60 lines: verdict, gates, overall, worst cells, difference to the other model."""
    lines = [
        f"### {_cell(report.model.file)} on {_cell(report.dataset.name)}: {_TITLES[verdict_kind(report.gates)]}",
        "",
        _text(verdict(report)),
        _text(gate_summary(report.gates)),
        "",
    ]
    lines += _gates(report)
    lines += _overall(report)
    synthetic = [cell for cell in report.cells if cell.source == "synthetic"]
    observed = [cell for cell in report.cells if cell.source != "synthetic"]
    lines += _cells("Worst synthetic conditions", synthetic, _WORST)
    lines += _cells("Worst recorded and measured slices", observed, _WORST_OBSERVED)
    if report.against:
        overall = report.against.overall
        lines += [
            f"**Beside {_cell(report.against.file)}**: {sentence(overall)[0].lower()}{sentence(overall)[1:]}: accuracy"
            f" {signed(overall.accuracy.value)} {signed_interval(overall.accuracy)}, Holm p {p_value(overall.p_holm)}"
            f"{'' if report.against.mce is None else f', mCE {number(report.against.mce)}'}.",
            "",
        ]
    warned = plural(len(report.warnings), "warning") if report.warnings else "No warning"
    lines.append(
        f"{warned}. {report.dataset.n} images from {plural(report.dataset.groups, 'group')}, suite"
        f" {_cell(report.suite)}; every figure with its 95% interval stands in `index.html`."
    )
    return "\n".join(lines) + "\n"


def _gates(report: Report) -> list[str]:
    if not report.gates:
        return []
    order = {"fail": 0, "insufficient": 1, "pass": 2}
    ranked = sorted(report.gates, key=lambda gate: order[gate.outcome])
    rows = [
        f"| {'**fail**' if gate.outcome == 'fail' else gate.outcome} | {_code(gate.expr)} |"
        f" {'–' if gate.observed is None else number(gate.observed)} |"
        for gate in ranked[:_MOST_GATES]
    ]
    left = len(ranked) - _MOST_GATES
    more = [f"| | {left} more: {', '.join(_outcomes(ranked[_MOST_GATES:]))} | |"] if left > 0 else []
    return ["| gate | requirement | bound |", "|---|---|--:|", *rows, *more, ""]


def _outcomes(gates: Iterable[object]) -> list[str]:
    found = [str(getattr(gate, "outcome", "")) for gate in gates]
    return [f"{found.count(outcome)} {outcome}" for outcome in dict.fromkeys(found)]


def _overall(report: Report) -> list[str]:
    metrics = report.overall.metrics
    chosen = [*(f"sensitivity[{label}]" for label in report.positive[:_MOST_POSITIVE]), *_SUMMARIES]
    rows = [
        f"| {_cell(metric_title(name))}{' (smaller is better)' if name in SMALLER_IS_BETTER else ''} |"
        f" {number(metrics[name].value)} | {interval(metrics[name])} |"
        for name in chosen
        if name in metrics
    ]
    return (
        [f"| clean images, n = {report.overall.n} | value | 95% interval |", "|---|--:|--:|", *rows, ""] if rows else []
    )


def _cells(title: str, cells: list[Cell], most: int) -> list[str]:
    """Return a table of the least accurate cells; those without a figure are counted beneath."""
    ranked = sorted(cells, key=worst_first(lambda cell: name_of(cell.conditions, cell.source)))
    known = [(cell, cell.metrics["accuracy"]) for cell in ranked if "accuracy" in cell.metrics]
    if not known:
        return []
    rows = [_row(cell, estimate) for cell, estimate in known[:most]]
    undefined = len(cells) - len(known)
    note = f", {undefined} with too few images to say" if undefined else ""
    return [f"| {title} ({len(cells)}{note}) | accuracy | 95% interval | n |", "|---|--:|--:|--:|", *rows, ""]


def _row(cell: Cell, estimate: Estimate) -> str:
    flag = " (low n)" if cell.status != "ok" else ""
    name = _cell(name_of(cell.conditions, cell.source))
    return f"| {name} | {number(estimate.value)} | {interval(estimate)} | {cell.n}{flag} |"


def _text(text: str) -> str:
    """Return text that Markdown shows as it is, on one line: no markup, no HTML, no mention of a person."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", " ".join(text.split())).replace("@", "@\u200b")


def _cell(text: str) -> str:
    """Return a name as `_text`, cut where it is too long for a column."""
    return _text(text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…")


def _code(text: str) -> str:
    """Return text as code within a table: a bar would end the cell, a backtick the code."""
    text = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{text}`"
