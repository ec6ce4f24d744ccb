"""Tables of cells: one line a cell, with its interval drawn on a scale that the table shares."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from imaging_ft.report.result import Cell, ConditionInfo, Estimate, Evidence, Gap, Report, Source
from imaging_ft.report.scale import Scale, gap_scale, scale_floor
from imaging_ft.report.wording import name_of, physical, values_of

SHOWN_ROWS = 10
"""Rows of a long table that stand open; the rest is one key press away, and open on paper."""
_MOST_SENSITIVITIES = 3
"""Positive classes with a column of their own; more of them share one, with the lowest."""


@dataclass(frozen=True)
class Shown:
    """A figure of a cell's further column; `note` says which class it is of, where the column is of several."""

    estimate: Estimate | None
    note: str = ""


@dataclass(frozen=True)
class CellRow:
    """A line of a table of cells."""

    label: str
    detail: str
    """The physical parameters behind the severities, or the columns of an intersection."""
    cell: Cell
    further: list[Shown]
    training: str = ""
    """Whether training practised the conditions: all of them, some (`partly`), or none (`held out`)."""


@dataclass(frozen=True)
class Table:
    """A table of cells: what stands in its head, its lines, and the scale that they share."""

    head: str
    caption: str
    rows: list[CellRow]
    further: list[tuple[str, str]]
    """(title, class or nothing) of the further columns: sensitivities of the positive classes."""
    scale: Scale
    trained: bool = False
    """Whether the lines say what training practised."""
    shown: int = SHOWN_ROWS


@dataclass(frozen=True)
class Gaps:
    """How far the best and the worst cell of each column or condition lie apart, on one scale."""

    rows: list[Gap]
    scale: Scale


@dataclass(frozen=True)
class Worst:
    """The part on the synthetic cells."""

    table: Table
    mean: list[tuple[str, float]]
    gap: float | None
    """How far the worst cell lies below clean."""
    flagged: int
    """Cells with few images."""
    gaps: Gaps | None


def worst(report: Report) -> Worst | None:
    """Return the part on the synthetic cells, from the least accurate up; None where none was measured."""
    cells = [cell for cell in report.cells if cell.source == "synthetic"]
    if not cells:
        return None
    clean = report.overall.metrics.get("accuracy")
    lowest = report.worst.metrics.get("accuracy") if report.worst else None
    first = report.positive[:_MOST_SENSITIVITIES]
    told = ["accuracy", "balanced_accuracy", "macro_f1", *(f"sensitivity[{label}]" for label in first)]
    return Worst(
        table=Table(
            head="Condition and severity",
            caption="Synthetic conditions, least accurate first",
            rows=synthetic_rows(cells, report),
            further=further_columns(report),
            scale=share_scale(cells, report),
            trained=True,
        ),
        mean=[(name, report.mean[name]) for name in told if name in report.mean],
        gap=clean.value - lowest.value if clean and lowest else None,
        flagged=sum(cell.status != "ok" for cell in cells),
        gaps=gaps(report, "synthetic"),
    )


def synthetic_rows(cells: Iterable[Cell], report: Report) -> list[CellRow]:
    """Return synthetic cells from the least accurate up; those without a figure stand last, not left out."""
    infos = {info.name: info for info in report.conditions}
    ranked = sorted(cells, key=worst_first(lambda cell: name_of(cell.conditions)))
    return [
        CellRow(name_of(cell.conditions), detail(cell, infos), cell, further(cell, report), _training(cell, infos))
        for cell in ranked
    ]


def observed_rows(cells: Iterable[Cell], report: Report, *, crossed: bool = False) -> list[CellRow]:
    """Return recorded or measured cells in their order; intersections (`crossed`) from the least accurate up."""
    chosen = sorted(cells, key=worst_first(values_of)) if crossed else [*cells]
    return [
        CellRow(values_of(cell), " × ".join(cell.conditions) if crossed else "", cell, further(cell, report))
        for cell in chosen
    ]


def worst_first(name: Callable[[Cell], str]) -> Callable[[Cell], tuple[float, float, str]]:
    """Return a sorting key: the least accurate cell first, undefined ones last."""

    def key(cell: Cell) -> tuple[float, float, str]:
        found = cell.metrics.get("accuracy")
        return (found.value, found.low, name(cell)) if found else (2.0, float(cell.n), name(cell))

    return key


def share_scale(cells: Iterable[Cell], report: Report) -> Scale:
    """Return the scale that the accuracies of cells share, with the clean value on it."""
    evidence: list[Evidence] = [report.overall, *cells]
    clean = report.overall.metrics.get("accuracy")
    low = scale_floor(found.metrics["accuracy"].low for found in evidence if "accuracy" in found.metrics)
    return Scale(low, mark=clean.value if clean else None)


def gaps(report: Report, source: Source) -> Gaps | None:
    """Return the gaps of one source, the widest first; None where there is none."""
    rows = [gap for gap in report.gaps if gap.source == source and "accuracy" in gap.metrics]
    if not rows:
        return None
    found = [gap.metrics["accuracy"] for gap in rows]
    scale = gap_scale(bound for estimate in found for bound in (estimate.low, estimate.high))
    return Gaps(sorted(rows, key=lambda gap: (-gap.metrics["accuracy"].value, gap.of)), scale)


def further_columns(report: Report) -> list[tuple[str, str]]:
    """Return the titles of the columns beside accuracy: a positive class each, or one for all of them."""
    if len(report.positive) > _MOST_SENSITIVITIES:
        return [(f"Lowest sensitivity of {len(report.positive)} classes", "")]
    return [("Sensitivity", label) for label in report.positive]


def further(cell: Cell, report: Report) -> list[Shown]:
    """Return a cell's figures for `further_columns`."""
    found = {label: cell.metrics.get(f"sensitivity[{label}]") for label in report.positive}
    if len(found) <= _MOST_SENSITIVITIES:
        return [Shown(estimate) for estimate in found.values()]
    known = [(estimate.value, label, estimate) for label, estimate in found.items() if estimate]
    if not known:
        return [Shown(None)]
    _, label, estimate = min(known)
    return [Shown(estimate, label)]


def detail(cell: Cell, infos: dict[str, ConditionInfo]) -> str:
    """Return the physical parameters behind a cell's severities."""
    parts: list[str] = []
    for name, severity in cell.conditions.items():
        info = infos.get(name)
        if info is not None and isinstance(severity, int) and severity in info.values:
            parts.append(physical(info, severity))
    return " · ".join(parts)


def _training(cell: Cell, infos: dict[str, ConditionInfo]) -> str:
    if cell.practised is None:
        return "–"
    if cell.practised:
        return "practised"
    return "partly" if any(infos[name].practised for name in cell.conditions if name in infos) else "held out"


def by_name(cells: Sequence[Cell]) -> dict[str, dict[int, Cell]]:
    """Return the cells with one synthetic condition, by its name and severity."""
    found: dict[str, dict[int, Cell]] = {}
    for cell in cells:
        if cell.source == "synthetic" and len(cell.conditions) == 1:
            ((name, severity),) = cell.conditions.items()
            found.setdefault(name, {})[int(severity)] = cell
    return found
