"""Recorded and measured columns: the clean images as they were taken, cut by what is known of them."""

from dataclasses import dataclass

from markupsafe import Markup

from imaging_ft.report.result import Cell, Column, Report, Source
from imaging_ft.report.sections.cells import (
    Gaps,
    Table,
    further_columns,
    gaps,
    observed_rows,
    share_scale,
)
from imaging_ft.report.sections.curves import column_curve

_WORDS: dict[Source, str] = {"recorded": "Recorded", "measured": "Measured", "synthetic": "Synthetic"}


@dataclass(frozen=True)
class ObservedColumn:
    """One column: its cells, and a curve where it says in numbers how the image was taken."""

    title: str
    table: Table
    curve: Markup | None


@dataclass(frozen=True)
class Observed:
    """The part on the columns of one source."""

    source: Source
    columns: list[ObservedColumn]
    crossed: Table | None
    """The intersections of columns."""
    gaps: Gaps | None


def observed(report: Report, source: Source) -> Observed | None:
    """Return the part on recorded, or on measured, columns; None where there is no such cell."""
    cells = [cell for cell in report.cells if cell.source == source]
    if not cells:
        return None
    alone: dict[str, list[Cell]] = {}
    for cell in cells:
        if len(cell.conditions) == 1:
            alone.setdefault(next(iter(cell.conditions)), []).append(cell)
    known = {column.name: column for column in report.columns if column.source == source}
    scale, further = share_scale(cells, report), further_columns(report)

    def table(head: str, chosen: list[Cell], *, crossed: bool = False) -> Table:
        words = f"{_WORDS[source]} {'conditions together, least accurate first' if crossed else f'condition {head}'}"
        return Table(
            head, words, observed_rows(chosen, report, crossed=crossed), further, scale, shown=10 if crossed else 16
        )

    def shown(name: str) -> ObservedColumn:
        column = known.get(name) or Column(name=name, source=source, title=name, axis=name)
        return ObservedColumn(column.title, table(name, alone[name]), column_curve(report, column, alone[name]))

    crossed = [cell for cell in cells if len(cell.conditions) > 1]
    # In the order of the columns; a column that is not described still shows its cells.
    names = dict.fromkeys([*(name for name in known if name in alone), *alone])
    return Observed(
        source=source,
        columns=[shown(name) for name in names],
        crossed=table("Values, and their columns", crossed, crossed=True) if crossed else None,
        gaps=gaps(report, source),
    )
