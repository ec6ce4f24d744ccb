"""The comparison with the other model: overall, cell by cell, and by corruption error."""

from dataclasses import dataclass

from imaging_ft.report.result import Against, Cell, Paired, Report
from imaging_ft.report.scale import Scale, difference_scale, error_scale
from imaging_ft.report.sections.cells import SHOWN_ROWS
from imaging_ft.report.wording import name_of

_LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """A line of the table of differences."""

    label: str
    cell: Cell
    paired: Paired
    told: str
    """`better`, `worse`, or `no difference shown`, by the adjusted p-value."""


@dataclass(frozen=True)
class Comparison:
    """The part on the other model."""

    other: Against
    told: str
    """What the overall difference amounts to, in one sentence."""
    rows: list[Difference]
    shown: int
    scale: Scale
    better: int
    worse: int
    errors: list[tuple[str, float]]
    """Condition and corruption error, the largest first."""
    error_scale: Scale


def comparison(report: Report) -> Comparison | None:
    """Return the part on the other model; None where there is none."""
    other = report.against
    if other is None:
        return None
    cells = [(cell, cell.against) for cell in report.cells if cell.against is not None]
    rows = [Difference(name_of(cell.conditions, cell.source), cell, paired, _told(paired)) for cell, paired in cells]
    rows.sort(key=lambda row: (row.paired.accuracy.value, row.label))
    bounds = [bound for row in rows for bound in (row.paired.accuracy.low, row.paired.accuracy.high)]
    errors = sorted(other.by_condition.items(), key=lambda item: (-item[1], item[0]))
    return Comparison(
        other=other,
        told=sentence(other.overall),
        rows=rows,
        shown=SHOWN_ROWS,
        scale=difference_scale([*bounds, other.overall.accuracy.low, other.overall.accuracy.high]),
        better=sum(row.told == "better" for row in rows),
        worse=sum(row.told == "worse" for row in rows),
        errors=errors,
        error_scale=error_scale([1.0, *(value for _, value in errors)], mark=1.0),
    )


def sentence(overall: Paired) -> str:
    """Return what a paired difference on the clean images amounts to."""
    told = _told(overall)
    if told == "no difference shown":
        return "On the clean images the two models can’t be told apart"
    return f"On the clean images this model is {told}"


def _told(paired: Paired) -> str:
    if paired.p_holm >= _LEVEL:
        return "no difference shown"
    return "better" if paired.accuracy.value > 0 else "worse"
