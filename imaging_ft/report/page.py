"""The report as one offline HTML file: no script, no request, readable on a phone, at a desk and on paper."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from imaging_ft.report.draw import (
    CURVES_A_PANEL,
    Curve,
    Forest,
    Point,
    count_range,
    heat_maps,
    scale_floor,
    severity_panel,
    swatch,
)
from imaging_ft.report.result import Cell, ConditionInfo, Estimate, Evidence, Gate, Report
from imaging_ft.types import Axis, Status, Task

_TEMPLATES = Path(__file__).parent / "templates"

_SHOWN_ROWS = 10
"""Rows of a long table that stand open; the rest is one key press away, and open on paper."""

_CURVE_METRICS = ("accuracy", "balanced_accuracy")
_METRIC_ORDER = {"sensitivity": 0, "specificity": 1}
_METHODS = {"wilson": "Wilson", "mover": "MOVER"}


@dataclass(frozen=True)
class MetricRow:
    """A line of the overall table."""

    title: str
    estimate: Estimate
    method: str
    n: int
    first: bool
    """Whether it belongs to a class whose sensitivity is reported first."""


@dataclass(frozen=True)
class Constant:
    """What a model would reach that always answers the same: the most frequent class, or no class at all."""

    answer: str
    accuracy: float
    balanced_accuracy: float


@dataclass(frozen=True)
class CellRow:
    """A line of a table of cells."""

    label: str
    detail: str
    """The physical parameters behind the severities; empty for recorded conditions."""
    cell: Cell
    training: str = ""
    """Whether training practised the conditions: all of them, some (`partly`), or none (`held out`)."""


@dataclass(frozen=True)
class ConditionRow:
    """A line of a panel's legend."""

    info: ConditionInfo
    swatch: Markup
    values: list[str]


@dataclass(frozen=True)
class Panel:
    """The severity curves of one axis: a drawing for each metric, and the legend."""

    axis: str
    part: int
    """1, or more where an axis has more conditions than one drawing tells apart."""
    key: str
    drawings: list[Markup]
    low: float
    """Where the vertical scale begins."""
    n: str
    rows: list[ConditionRow]


@dataclass(frozen=True)
class Column:
    """The cells of one recorded or measured column, or of an intersection of columns."""

    name: str
    rows: list[CellRow]


def write_page(report: Report, path: Path) -> None:
    """Write the report as one self-contained HTML file; the same report gives the same bytes."""
    path.write_text(render_page(report), encoding="utf-8", newline="\n")


def render_page(report: Report) -> str:
    """Return the HTML text of the report."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["breakable"] = breakable
    environment.filters["number"] = number
    environment.filters["interval"] = interval
    return environment.get_template("report.html.j2").render(_content(report))


def number(value: float) -> str:
    """Return a share with three decimals, the precision of the whole page."""
    return f"{value:.3f}".replace("-", "\u2212")


def breakable(text: str) -> Markup:
    """Return the text, escaped, with leave to break a line after each underscore."""
    return Markup("_<wbr>").join(text.split("_"))


def interval(estimate: Estimate) -> str:
    """Return `[low, high]` with the precision of the page."""
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def _content(report: Report) -> dict[str, Any]:
    synthetic = [cell for cell in report.cells if cell.source == "synthetic"]
    observed = {
        source: _columns(cell for cell in report.cells if cell.source == source) for source in ("recorded", "measured")
    }
    return {
        "report": report,
        "verdict": _verdict(report),
        "verdict_kind": _verdict_kind(report.gates),
        "gate_summary": _gate_summary(report.gates),
        "metric_rows": _metric_rows(report),
        "multilabel": _multilabel(report),
        "constant": _constant(report),
        "gap": _gap(report),
        "clean": report.overall.metrics.get("accuracy"),
        "synthetic": _ranked(synthetic, report),
        "shown": _SHOWN_ROWS,
        "sensitivities": [f"sensitivity[{label}]" for label in report.positive],
        "forest": Forest(scale_floor(_lows(synthetic, report))),
        "observed_forest": Forest(
            scale_floor(_lows([cell for cell in report.cells if cell.source != "synthetic"], report))
        ),
        "panels": _panels(report, synthetic),
        "heat_maps": heat_maps(report),
        "observed": observed,
        "flagged": sum(cell.status is not Status.OK for cell in synthetic),
    }


def _multilabel(report: Report) -> bool:
    return report.model.task == Task.MULTILABEL


def _verdict(report: Report) -> str:
    clean, worst = report.overall.metrics.get("accuracy"), report.worst
    what = f"Accuracy{' (every label right)' if _multilabel(report) else ''} on the clean images"
    if clean is None:
        return f"{what}: too few to say (n = {report.overall.n})."
    start = f"{what} {number(clean.value)} {interval(clean)}"
    if not any(cell.source == "synthetic" for cell in report.cells):
        return f"{start}; no synthetic condition was measured."
    if worst is None or "accuracy" not in worst.metrics:
        return f"{start}; under every synthetic condition there are too few images to say."
    lowest = worst.metrics["accuracy"]
    verb = "falls to" if lowest.value < clean.value else "no synthetic condition lowers it: at worst"
    return f"{start}; {verb} {number(lowest.value)} {interval(lowest)} under {_label(worst)}."


def _verdict_kind(gates: Sequence[Gate]) -> str:
    outcomes = {gate.outcome for gate in gates}
    return next((kind for kind in ("fail", "insufficient", "pass") if kind in outcomes), "none")


def _gate_summary(gates: Sequence[Gate]) -> str:
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


def _metric_rows(report: Report) -> list[MetricRow]:
    """Return every overall metric: the positive classes' sensitivity first, then the rest as they come."""
    overall, classes = report.overall, report.dataset.classes
    leading = [f"sensitivity[{label}]" for label in report.positive]
    summaries = [name for name in ("balanced_accuracy", "accuracy") if name in overall.metrics]
    families = sorted(overall.metrics, key=lambda name: _METRIC_ORDER.get(_metric_parts(name)[0], 2))
    ordered = dict.fromkeys([*leading, *summaries, *families])
    counted = _multilabel(report) or sum(classes.values()) == overall.n
    rows: list[MetricRow] = []
    for name in ordered:
        if name not in overall.metrics:
            continue
        estimate = overall.metrics[name]
        family, label = _metric_parts(name)
        n = overall.n
        if counted and label in classes:
            n = {"sensitivity": classes[label], "specificity": n - classes[label]}.get(family, n)
        method = _METHODS.get(estimate.method, estimate.method)
        rows.append(MetricRow(_metric_title(name), estimate, method, n, name in leading))
    return rows


def _metric_parts(name: str) -> tuple[str, str]:
    """Return `sensitivity[knife]` as ("sensitivity", "knife") and `accuracy` as ("accuracy", "")."""
    family, bracket, label = name.partition("[")
    return family, label.removesuffix("]") if bracket else ""


def _metric_title(name: str) -> str:
    family, label = _metric_parts(name)
    words = family.replace("_", " ").capitalize()
    return f"{words}, {label}" if label else words


def _constant(report: Report) -> Constant | None:
    """Return what always answering the most frequent class reaches; of a multi-label task, always answering none."""
    data = report.dataset
    if _multilabel(report):
        return Constant("none of the labels", data.none / data.n, 0.5) if data.none is not None and data.n else None
    total = sum(data.classes.values())
    if not total:
        return None
    label = max(data.classes, key=lambda name: data.classes[name])
    occurring = sum(1 for count in data.classes.values() if count)
    return Constant(label, data.classes[label] / total, 1 / occurring)


def _gap(report: Report) -> float | None:
    """Return how far the worst synthetic condition lies below clean; None where either is undefined."""
    clean = report.overall.metrics.get("accuracy")
    lowest = report.worst.metrics.get("accuracy") if report.worst else None
    return clean.value - lowest.value if clean and lowest else None


def _lows(cells: Iterable[Cell], report: Report) -> list[float]:
    evidence: list[Evidence] = [report.overall, *cells]
    return [found.metrics["accuracy"].low for found in evidence if "accuracy" in found.metrics]


def _label(cell: Cell) -> str:
    return " × ".join(f"{name} {severity}" for name, severity in cell.conditions.items())


def _ranked(cells: Iterable[Cell], report: Report) -> list[CellRow]:
    """Return synthetic cells from the least accurate up; those without a figure stand last, not left out."""
    infos = {info.name: info for info in report.conditions}

    def key(cell: Cell) -> tuple[float, float, str]:
        found = cell.metrics.get("accuracy")
        return (found.value, found.low, _label(cell)) if found else (2.0, float(cell.n), _label(cell))

    return [
        CellRow(_label(cell), _detail(cell, infos), cell, _training(cell, infos)) for cell in sorted(cells, key=key)
    ]


def _detail(cell: Cell, infos: dict[str, ConditionInfo]) -> str:
    parts: list[str] = []
    for name, severity in cell.conditions.items():
        info = infos.get(name)
        if info is not None and isinstance(severity, int) and severity in info.values:
            parts.append(_physical(info, severity))
    return " · ".join(parts)


def _training(cell: Cell, infos: dict[str, ConditionInfo]) -> str:
    if cell.practised is None:
        return "–"
    if cell.practised:
        return "practised"
    return "partly" if any(infos[name].practised for name in cell.conditions if name in infos) else "held out"


def _physical(info: ConditionInfo, severity: int) -> str:
    """Return `deviation index −10 dB` for the parameter `deviation index (dB)`."""
    value = _plain(info.values[severity])
    match = re.fullmatch(r"(.+?) \(([^()]+)\)", info.parameter)
    if match is None:
        return f"{info.parameter} {value}"
    return f"{match[1]} {value}{'' if match[2] in ('°', '%') else ' '}{match[2]}"


def _plain(value: float) -> str:
    return f"{value:g}".replace("-", "\u2212")


def _columns(cells: Iterable[Cell]) -> list[Column]:
    columns: dict[tuple[str, ...], list[CellRow]] = {}
    for cell in cells:
        row = CellRow(" × ".join(str(value) for value in cell.conditions.values()), "", cell)
        columns.setdefault(tuple(cell.conditions), []).append(row)
    return [Column(" × ".join(names), rows) for names, rows in columns.items()]


def _panels(report: Report, synthetic: Sequence[Cell]) -> list[Panel]:
    """Return the curves of each axis from the cells with one condition."""
    single: dict[str, dict[int, Cell]] = {}
    for cell in synthetic:
        if len(cell.conditions) == 1:
            ((name, severity),) = cell.conditions.items()
            single.setdefault(name, {})[int(severity)] = cell
    shown: list[Evidence] = [report.overall, *(cell for cells in single.values() for cell in cells.values())]
    low = scale_floor(
        found.metrics[metric].low for found in shown for metric in _CURVE_METRICS if metric in found.metrics
    )
    panels: list[Panel] = []
    for axis in dict.fromkeys(info.axis for info in report.conditions):
        infos = [info for info in report.conditions if info.axis is axis and info.name in single]
        for start in range(0, len(infos), CURVES_A_PANEL):
            chunk, part = infos[start : start + CURVES_A_PANEL], start // CURVES_A_PANEL + 1
            panels.append(_panel(report, single, chunk, part=part, low=low))
    return panels


def _panel(
    report: Report,
    single: dict[str, dict[int, Cell]],
    infos: Sequence[ConditionInfo],
    *,
    part: int,
    low: float,
) -> Panel:
    axis = infos[0].axis
    key = f"{axis}-{part}"
    drawings: list[Markup] = []
    for metric in _CURVE_METRICS:
        clean = report.overall.metrics.get(metric)
        curves = [Curve(info.practised, _points(single[info.name], metric)) for info in infos]
        if clean is None and all(point.estimate is None for curve in curves for point in curve.points):
            continue
        title = _metric_title(metric)
        described = _described(title, axis, clean, infos, curves)
        name = f"{key}-{metric.replace('_', '-')}"
        drawings.append(severity_panel(curves, clean=clean, title=title, low=low, name=name, described=described))
    rows = [
        ConditionRow(
            info,
            swatch(place, practised=info.practised),
            [_plain(info.values[level]) if level in info.values else "–" for level in report.severities],
        )
        for place, info in enumerate(infos)
    ]
    counts = [cell.n for info in infos for cell in single[info.name].values()]
    return Panel(str(axis), part, key, drawings, low, count_range(counts), rows)


def _points(cells: dict[int, Cell], metric: str) -> list[Point]:
    return [Point(level, cells[level].metrics.get(metric), cells[level].status) for level in sorted(cells)]


def _described(
    title: str, axis: Axis, clean: Estimate | None, infos: Sequence[ConditionInfo], curves: Sequence[Curve]
) -> str:
    """Return in words what the curves show, for a reader who can't see them."""
    parts = [f"{title} by severity, {axis} conditions. Clean: {number(clean.value) if clean else 'too few'}"]
    for info, curve in zip(infos, curves, strict=True):
        steps = ", ".join(
            f"{number(point.estimate.value) if point.estimate else 'too few'} at {point.severity}"
            for point in curve.points
        )
        parts.append(f"{info.name} ({'practised in training' if info.practised else 'held out'}): {steps}")
    return ". ".join(parts) + "."
