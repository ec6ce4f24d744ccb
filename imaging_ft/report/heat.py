"""Heat maps: accuracy where two conditions meet, with colours that read in light, dark, print and without red."""

from collections.abc import Sequence
from dataclasses import dataclass

from imaging_ft.report.result import Cell, Evidence, Report
from imaging_ft.report.scale import scale_floor
from imaging_ft.report.wording import count_range
from imaging_ft.types import Axis

_ROW_AXES = (Axis.LIGHTING, Axis.SENSOR, Axis.SCENE, Axis.MOTION, Axis.ANGLE)
"""Which axis of a pair gets the rows of a heat map: the earlier one."""

_CIVIDIS = (
    *("00224e", "002e6a", "1a386f", "32436d", "434e6c", "535a6d", "61656f", "6f7073", "7d7c78", "8b8778"),
    *("9a9376", "aaa073", "bbad6d", "ccba64", "ddc858", "efd748", "fee838"),
)
"""Seventeen equal steps of cividis (Nuñez, Anderton & Renslow 2018): even in lightness, also for the colour-blind."""


@dataclass(frozen=True)
class Square:
    """A square of a heat map; `evidence` is None where the pair was not measured."""

    evidence: Evidence | None
    background: str = ""
    ink: str = ""


@dataclass(frozen=True)
class HeatMap:
    """Accuracy over the pairs of two axes; the first row and column are clean along the other axis."""

    row_axis: str
    column_axis: str
    columns: list[tuple[str, list[int]]]
    """Condition and its severities, in the order of the squares after the clean one."""
    rows: list[tuple[str, list[Square]]]
    n: str
    groups: str
    key: list[tuple[str, str, str]]
    """(value, background, ink) of the colour scale."""


def heat_maps(report: Report) -> list[HeatMap]:
    """Return a heat map for each pair of axes that the cells with two conditions span."""
    synthetic = [cell for cell in report.cells if cell.source == "synthetic"]
    axis_of = {info.name: info.axis for info in report.conditions}
    pairs: dict[tuple[Axis, Axis], None] = {}
    for cell in synthetic:
        axes = {axis_of[name] for name in cell.conditions if name in axis_of}
        if len(cell.conditions) == 2 and len(axes) == 2:
            row_axis, column_axis = sorted(axes, key=_ROW_AXES.index)
            pairs[row_axis, column_axis] = None
    return [_heat_map(report, synthetic, axis_of, row, column) for row, column in pairs]


def _heat_map(
    report: Report, synthetic: Sequence[Cell], axis_of: dict[str, Axis], row_axis: Axis, column_axis: Axis
) -> HeatMap:
    known: dict[frozenset[tuple[str, int | str]], Evidence] = {frozenset(): report.overall}
    known |= {frozenset(cell.conditions.items()): cell for cell in synthetic}
    paired = {
        item
        for cell in synthetic
        if len(cell.conditions) == 2 and {axis_of.get(name) for name in cell.conditions} == {row_axis, column_axis}
        for item in cell.conditions.items()
    }

    def along(axis: Axis) -> list[tuple[str, list[int]]]:
        names = [info.name for info in report.conditions if info.axis is axis]
        levels = [(name, sorted(int(level) for other, level in paired if other == name)) for name in names]
        return [(name, found) for name, found in levels if found]

    columns = along(column_axis)
    across = [frozenset[tuple[str, int | str]](), *({(name, s)} for name, levels in columns for s in levels)]
    down = [("clean", frozenset[tuple[str, int | str]]())]
    down += [(f"{name} {s}", frozenset({(name, s)})) for name, levels in along(row_axis) for s in levels]
    table = [(title, [known.get(one | frozenset(other)) for other in across]) for title, one in down]

    shown = [found for _, line in table for found in line if found is not None]
    values = [found.metrics["accuracy"].value for found in shown if "accuracy" in found.metrics]
    low = scale_floor(values)
    steps = [low + (1.0 - low) * part / 5 for part in range(6)] if values else []

    def square(found: Evidence | None) -> Square:
        if found is None or "accuracy" not in found.metrics:
            return Square(found)
        return Square(found, *heat_colours(found.metrics["accuracy"].value, low=low))

    return HeatMap(
        row_axis=str(row_axis),
        column_axis=str(column_axis),
        columns=columns,
        rows=[(title, [square(found) for found in line]) for title, line in table],
        n=count_range([found.n for found in shown]),
        groups=count_range([found.groups for found in shown]),
        key=[(f"{step:.2f}", *heat_colours(step, low=low)) for step in steps],
    )


def heat_colours(value: float, *, low: float) -> tuple[str, str]:
    """Return (background, text) colours for a value in [low, 1], with the text that reads better."""
    place = min(max((value - low) / (1.0 - low), 0.0), 1.0) * (len(_CIVIDIS) - 1)
    first = min(int(place), len(_CIVIDIS) - 2)
    start, end = (bytes.fromhex(_CIVIDIS[at]) for at in (first, first + 1))
    colour = [round(a + (b - a) * (place - first)) for a, b in zip(start, end, strict=True)]
    background = "#" + "".join(f"{part:02x}" for part in colour)
    return background, "#ffffff" if _luminance(*(part / 255 for part in colour)) < 0.179 else "#000000"


def _luminance(*channels: float) -> float:
    """Return the relative luminance of an sRGB colour in [0, 1] (WCAG 2.2); black and white tie at .179."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
