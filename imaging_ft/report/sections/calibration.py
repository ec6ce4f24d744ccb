"""Calibration and risk–coverage: whether probabilities mean what they say, and what refusing to answer gains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from imaging_ft.report.draw import SMALL, Line, Mark, Span, chart
from imaging_ft.report.result import Bin, Cell, Detail, Estimate, Evidence, Report
from imaging_ft.report.scale import error_scale, scale_floor, share_ticks, ticks
from imaging_ft.report.sections.cells import by_name
from imaging_ft.report.wording import name_of, number

_MOST_PLACES = 120
"""A risk–coverage curve is drawn at so many places; more can't be told apart in its width."""


@dataclass(frozen=True)
class Small:
    """One of several small drawings with the same axes."""

    name: str
    worst: bool
    drawing: Markup
    n: int
    ece: Estimate | None
    aurc: float


@dataclass(frozen=True)
class Shade:
    """An error in a table; `share` is where it lies between 0 and the largest one."""

    estimate: Estimate | None
    share: float = 0.0


@dataclass(frozen=True)
class Errors:
    """The expected calibration error by condition and severity."""

    severities: list[int]
    clean: Estimate | None
    rows: list[tuple[str, list[Shade]]]


@dataclass(frozen=True)
class Calibration:
    """Reliability diagrams, and the calibration error by condition."""

    low: float
    """Where both axes of the diagrams begin."""
    diagrams: list[Small]
    errors: Errors | None


@dataclass(frozen=True)
class Coverage:
    """Risk–coverage curves, the largest area first after clean."""

    high: float
    """Where the vertical axis of the drawings ends."""
    curves: list[Small]
    clean: float | None
    """The area under the curve of the clean images."""


def calibration(report: Report) -> Calibration | None:
    """Return the part on calibration; None where no cell has a reliability diagram or a calibration error."""
    details = [detail for detail in _distinct(report) if detail.reliability]
    bins = [one for detail in details for one in detail.reliability]
    low = scale_floor(value for one in bins for value in (one.confidence, one.accuracy.low))
    found = _cells(report)
    diagrams = [_small(detail, found, report, _reliability(detail, low)) for detail in details]
    errors = _errors(report)
    return Calibration(low, diagrams, errors) if diagrams or errors else None


def coverage(report: Report) -> Coverage | None:
    """Return the part on risk and coverage; None where no cell has a curve."""
    details = [detail for detail in _distinct(report) if detail.risk_coverage]
    if not details:
        return None
    thinned = [_thinned(detail.risk_coverage) for detail in details]
    high = error_scale(risk for curve in thinned for _, risk in curve).high
    clean = next((curve for detail, curve in zip(details, thinned, strict=True) if not detail.conditions), None)
    found = _cells(report)
    curves = [
        _small(detail, found, report, _risk(detail, curve, clean, high))
        for detail, curve in zip(details, thinned, strict=True)
    ]
    area = next((detail.aurc for detail in details if not detail.conditions), None)
    first = [curve for curve in curves if curve.name == "clean"]
    others = sorted((curve for curve in curves if curve.name != "clean"), key=lambda one: (-one.aurc, one.name))
    return Coverage(high, [*first, *others], area)


def _distinct(report: Report) -> list[Detail]:
    """Return the details once each: the worst cell may be a condition at its highest severity, too."""
    return [*{tuple(detail.conditions.items()): detail for detail in report.details}.values()]


def _cells(report: Report) -> dict[frozenset[tuple[str, int | str]], Evidence]:
    found: dict[frozenset[tuple[str, int | str]], Evidence] = {
        frozenset(cell.conditions.items()): cell for cell in report.cells if cell.source == "synthetic"
    }
    return found | {frozenset(): report.overall}


def _small(
    detail: Detail, cells: dict[frozenset[tuple[str, int | str]], Evidence], report: Report, drawing: Markup
) -> Small:
    cell = cells.get(frozenset(detail.conditions.items()))
    worst = bool(detail.conditions) and report.worst is not None and detail.conditions == report.worst.conditions
    n = cell.n if cell else sum(one.n for one in detail.reliability)
    return Small(name_of(detail.conditions), worst, drawing, n, cell.metrics.get("ece") if cell else None, detail.aurc)


def _reliability(detail: Detail, low: float) -> Markup:
    axis = share_ticks(low)
    marks = [
        Mark(one.confidence, one.accuracy.value, one.accuracy.low, one.accuracy.high) for one in detail.reliability
    ]
    return chart(
        [Line(marks, 0 if not detail.conditions else 1, intervals="bars")],
        x=Span(low, 1.0, axis, "probability"),
        y=Span(low, 1.0, axis),
        size=SMALL,
        diagonal=True,
        described=f"Reliability, {name_of(detail.conditions)}: {_told(detail.reliability)}.",
    )


def _told(bins: Sequence[Bin]) -> str:
    return ", ".join(
        f"at probability {number(one.confidence)} accuracy {number(one.accuracy.value)} (n = {one.n})" for one in bins
    )


def _risk(
    detail: Detail, curve: Sequence[tuple[float, float]], clean: Sequence[tuple[float, float]] | None, high: float
) -> Markup:
    lines = [_curve(curve, 1 if detail.conditions else 0)]
    if detail.conditions and clean is not None:
        lines.insert(0, _curve(clean, "muted"))
    at = [(share, _at(curve, share)) for share in (0.5, 0.8, 1.0)]
    told = ", ".join(f"{number(risk)} at coverage {share:g}" for share, risk in at)
    return chart(
        lines,
        x=Span(0.0, 1.0, [(0.0, "0"), (0.5, "0.5"), (1.0, "1")], "coverage"),
        y=Span(0.0, high, ticks(0.0, high, most=5)),
        size=SMALL,
        described=f"Risk by coverage, {name_of(detail.conditions)}: {told}; area {number(detail.aurc)}.",
    )


def _curve(places: Sequence[tuple[float, float]], style: int | Literal["muted"]) -> Line:
    marks = [Mark(share, risk) for share, risk in places]
    return Line(marks, style, dashed=style == "muted", pointed=False, intervals="none")


def _thinned(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most `_MOST_PLACES` places of a curve by rising coverage, the last one among them."""
    places = sorted(curve)
    step = -(-len(places) // _MOST_PLACES)
    return places[::-step][::-1]


def _at(curve: Sequence[tuple[float, float]], share: float) -> float:
    """Return the risk at a coverage: that of the nearest place at or above it."""
    return next((risk for found, risk in curve if found >= share - 1e-9), curve[-1][1])


def _errors(report: Report) -> Errors | None:
    single = by_name(report.cells)
    found: list[Cell] = [cell for cells in single.values() for cell in cells.values() if "ece" in cell.metrics]
    clean = report.overall.metrics.get("ece")
    if not found:
        return None
    largest = max(cell.metrics["ece"].value for cell in found) or 1.0

    def shade(cell: Cell | None) -> Shade:
        estimate = cell.metrics.get("ece") if cell else None
        return Shade(estimate, round(estimate.value / largest, 2)) if estimate else Shade(None)

    names = [info.name for info in report.conditions if info.name in single]
    rows = [(name, [shade(single[name].get(level)) for level in report.severities]) for name in names]
    return Errors(list(report.severities), clean, rows)
