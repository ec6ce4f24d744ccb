"""Severity curves: one condition at a time, from clean to the highest severity; and curves over a recorded number."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from imaging_ft.report.draw import CURVES_A_PANEL, Line, Mark, Span, chart, swatch
from imaging_ft.report.result import Cell, Column, ConditionInfo, Estimate, Evidence, Report
from imaging_ft.report.scale import scale_floor, share_ticks, ticks
from imaging_ft.report.sections.cells import by_name
from imaging_ft.report.wording import count_range, metric_title, number, plain, values_of
from imaging_ft.types import Axis, Status

_METRICS = ("accuracy", "balanced_accuracy")


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


def panels(report: Report) -> list[Panel]:
    """Return the curves of each axis from the cells with one condition."""
    single = by_name(report.cells)
    shown: list[Evidence] = [report.overall, *(cell for cells in single.values() for cell in cells.values())]
    low = scale_floor(found.metrics[metric].low for found in shown for metric in _METRICS if metric in found.metrics)
    found: list[Panel] = []
    for axis in dict.fromkeys(info.axis for info in report.conditions):
        infos = [info for info in report.conditions if info.axis is axis and info.name in single]
        for start in range(0, len(infos), CURVES_A_PANEL):
            part = start // CURVES_A_PANEL + 1
            found.append(_panel(report, single, infos[start : start + CURVES_A_PANEL], part=part, low=low))
    return found


def column_curve(report: Report, column: Column, cells: Sequence[Cell]) -> Markup | None:
    """Return accuracy over a recorded number; None where the column is no number, or too few cells have a figure."""
    if column.centres is None or column.axis not in {Axis.LIGHTING, Axis.ANGLE}:
        return None
    # An extra cell at the end holds the images without a value, and has no place.
    placed = [*zip(column.centres, cells, strict=False)]
    found = [(centre, cell, cell.metrics["accuracy"]) for centre, cell in placed if "accuracy" in cell.metrics]
    if len(found) < 2:
        return None
    clean = report.overall.metrics.get("accuracy")
    low = scale_floor([estimate.low for _, _, estimate in found] + ([clean.value] if clean else []))
    first, last = min(column.centres), max(column.centres)
    margin = 0.04 * (last - first)
    steps = ", ".join(f"{number(estimate.value)} at {values_of(cell)}" for _, cell, estimate in found)
    return chart(
        [Line([_mark(centre, cell, "accuracy") for centre, cell in placed], 0 if column.axis == Axis.ANGLE else 1)],
        x=Span(first - margin, last + margin, ticks(first, last), column.title),
        y=Span(low, 1.0, share_ticks(low)),
        title="Accuracy",
        level=clean.value if clean else None,
        described=f"Accuracy by {column.title}: {steps}. All images: {number(clean.value) if clean else 'too few'}.",
    )


def _panel(
    report: Report, single: dict[str, dict[int, Cell]], infos: Sequence[ConditionInfo], *, part: int, low: float
) -> Panel:
    axis = infos[0].axis
    rows = [
        ConditionRow(
            info,
            swatch(place, dashed=not info.practised),
            [plain(info.values[level]) if level in info.values else "–" for level in report.severities],
        )
        for place, info in enumerate(infos)
    ]
    counts = [cell.n for info in infos for cell in single[info.name].values()]
    drawings = [drawn for metric in _METRICS if (drawn := _drawing(report, single, infos, metric, low)) is not None]
    return Panel(str(axis), part, f"{axis}-{part}", drawings, low, count_range(counts), rows)


def _drawing(
    report: Report, single: dict[str, dict[int, Cell]], infos: Sequence[ConditionInfo], metric: str, low: float
) -> Markup | None:
    """Return one metric over severity, a line with its band for each condition; None where there is no figure."""
    clean = report.overall.metrics.get(metric)
    curves = [[_mark(level, single[info.name][level], metric) for level in sorted(single[info.name])] for info in infos]
    if clean is None and all(mark.y is None for marks in curves for mark in marks):
        return None
    levels = sorted({int(mark.x) for marks in curves for mark in marks})
    start = Mark(0, None) if clean is None else Mark(0, clean.value, clean.low, clean.high)
    lines = [
        Line([start, *marks], place, dashed=not info.practised)
        for place, (info, marks) in enumerate(zip(infos, curves, strict=True))
    ]
    if clean is not None:
        lines.append(Line([Mark(0, clean.value)], "ink", joined=False, intervals="none"))
    title = metric_title(metric)
    last = max(levels, default=1)
    return chart(
        lines,
        x=Span(-0.03 * last, 1.03 * last, [(0, "clean"), *((level, str(level)) for level in levels)], "severity"),
        y=Span(low, 1.0, share_ticks(low)),
        title=title,
        level=clean.value if clean else None,
        described=_described(title, infos, clean, curves),
    )


def _mark(place: float, cell: Cell, metric: str) -> Mark:
    found = cell.metrics.get(metric)
    if found is None:
        return Mark(place, None)
    return Mark(place, found.value, found.low, found.high, hollow=cell.status is not Status.OK)


def _described(
    title: str, infos: Sequence[ConditionInfo], clean: Estimate | None, curves: Sequence[Sequence[Mark]]
) -> str:
    """Return in words what the curves show, for a reader who can't see them."""
    start = number(clean.value) if clean else "too few"
    parts = [f"{title} by severity, {infos[0].axis} conditions. Clean: {start}"]
    for info, marks in zip(infos, curves, strict=True):
        steps = ", ".join(f"{'too few' if mark.y is None else number(mark.y)} at {mark.x:g}" for mark in marks)
        parts.append(f"{info.name} ({'practised in training' if info.practised else 'held out'}): {steps}")
    return ". ".join(parts) + "."
