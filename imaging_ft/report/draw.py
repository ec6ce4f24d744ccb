"""The drawings of the page: severity curves as inline SVG, forest-plot geometry, heat-map colours.

Colours in a figure are CSS variables of the page (`--ink`, `--c1` …), so that one drawing serves light, dark
and paper; text stays text in the reader's own sans-serif. The same report gives the same bytes.
"""

import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from imaging_ft.report.result import Cell, Estimate, Evidence, Report
from imaging_ft.types import Axis, Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Stand-ins that matplotlib can draw with; each becomes its CSS variable in the finished figure.
_INK, _MUTED, _RULE, _PAPER = "#010a01", "#010a02", "#010a03", "#010a04"
_SERIES = ("#010b01", "#010b02", "#010b03", "#010b04", "#010b05", "#010b06")
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _RULE: "--rule", _PAPER: "--paper"} | {
    stand_in: f"--c{number}" for number, stand_in in enumerate(_SERIES, start=1)
}

_MARKERS = ("o", "s", "^", "D", "v", "X")
_MARKER_PATHS = (
    "M17 3.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7z",
    "M13.8 3.8h6.4v6.4h-6.4z",
    "M17 2.8l4 7.6h-8z",
    "M17 2.4l4.6 4.6l-4.6 4.6l-4.6-4.6z",
    "M17 11.2l4-7.6h-8z",
    "M13.5 3.5l2-.6l1.5 2l1.5-2l2 .6l-1.7 3.5l1.7 3.5l-2 .6l-1.5-2l-1.5 2l-2-.6l1.7-3.5z",
)
CURVES_A_PANEL = len(_SERIES)
"""How many curves one drawing can tell apart by colour and marker."""

_PANEL_INCHES = (4.4, 2.9)
_FONT_POINTS = 10

_ROW_AXES = (Axis.LIGHTING, Axis.SENSOR, Axis.SCENE, Axis.MOTION, Axis.ANGLE)
"""Which axis of a pair gets the rows of a heat map: the earlier one."""


@dataclass(frozen=True)
class Point:
    """One severity of a curve; `estimate` is None where too few images were measured."""

    severity: int
    estimate: Estimate | None
    status: Status


@dataclass(frozen=True)
class Curve:
    """One condition's line over its severities, without the clean value (severity 0)."""

    practised: bool
    points: list[Point]


@dataclass(frozen=True)
class Forest:
    """The horizontal scale that the small interval drawings of a table share, in pixels."""

    low: float
    """The value at the left end; the right end is 1."""
    width: int = 132
    margin: int = 6

    def x(self, value: float) -> float:
        """Return where a value in [low, 1] lies, in pixels from the left."""
        share = (min(max(value, self.low), 1.0) - self.low) / (1.0 - self.low)
        return round(self.margin + share * (self.width - 2 * self.margin), 1)


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


def scale_floor(values: Iterable[float]) -> float:
    """Return the tenth at or below the smallest value, at most 0.9: where the scales of the page begin."""
    smallest = min(values, default=0.9)
    return min(0.9, max(0.0, math.floor(smallest * 10 + 1e-9) / 10))


def swatch(number: int, *, practised: bool) -> Markup:
    """Return the legend's picture of a panel's curve `number`: its colour, dash and marker."""
    dash = "none" if practised else "5 3"
    style = number % len(_SERIES)
    return Markup(
        '<svg class="swatch" width="34" height="14" viewBox="0 0 34 14" aria-hidden="true">'
        '<path d="M1 7H33" fill="none" stroke="var(--c{0})" stroke-width="2" stroke-dasharray="{1}"/>'
        '<path d="{2}" fill="var(--c{0})"/></svg>'
    ).format(style + 1, dash, _MARKER_PATHS[style])


def severity_panel(
    curves: Sequence[Curve], *, clean: Estimate | None, title: str, low: float, name: str, described: str
) -> Markup:
    """Return an SVG of one metric over severity: a line with its band for each condition.

    `low` is where the vertical scale begins; `name` keeps the ids of several figures on one page apart;
    `described` is what a screen reader says.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "imaging_ft",
            "font.size": _FONT_POINTS,
            "text.parse_math": False,
        }
    ):
        figure = Figure(figsize=_PANEL_INCHES, dpi=72)
        axes = figure.add_axes((0.1, 0.175, 0.875, 0.68))
        _dress(axes, title=title, low=low, severities=_severities(curves))
        if clean is not None:
            axes.axhline(clean.value, color=_MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        for number, curve in enumerate(curves):
            _draw_curve(axes, number, curve, clean)
        if clean is not None:
            axes.plot([0], [clean.value], "o", color=_INK, markersize=6, zorder=4, clip_on=False)
        drawing = io.StringIO()
        figure.savefig(drawing, format="svg", transparent=True, metadata={"Date": None})
    return _inline(drawing.getvalue(), name=name, described=described)


def _severities(curves: Sequence[Curve]) -> list[int]:
    return sorted({point.severity for curve in curves for point in curve.points})


def _dress(axes: "Axes", *, title: str, low: float, severities: list[int]) -> None:
    last = max(severities, default=1)
    axes.set_xlim(-0.03 * last, last * 1.03)
    axes.set_ylim(low, 1.0)
    axes.set_xticks([0, *severities], ["clean", *(str(severity) for severity in severities)])
    # Ten ticks at most: whole tenths, or every second one on a long scale.
    step = 0.2 if low < 0.5 else 0.1 if low < 0.8 else 0.05
    ticks = [1.0 - step * number for number in range(int((1.0 - low) / step + 1e-9) + 1)]
    axes.set_yticks(ticks, [f"{tick:.2f}" if step < 0.1 else f"{tick:.1f}" for tick in ticks])
    axes.set_title(title, loc="left", fontsize=_FONT_POINTS + 1, color=_INK, fontweight="bold", x=-0.09, pad=12)
    axes.set_xlabel("severity", color=_MUTED, labelpad=1)
    axes.tick_params(colors=_MUTED, length=0, labelcolor=_MUTED, pad=5)
    axes.grid(axis="y", color=_RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)


def _draw_curve(axes: "Axes", number: int, curve: Curve, clean: Estimate | None) -> None:
    colour = _SERIES[number % len(_SERIES)]
    steps = [(0, clean), *((point.severity, point.estimate) for point in curve.points)]
    places = [severity for severity, _ in steps]
    values = [math.nan if estimate is None else estimate.value for _, estimate in steps]
    lows = [math.nan if estimate is None else estimate.low for _, estimate in steps]
    highs = [math.nan if estimate is None else estimate.high for _, estimate in steps]
    axes.fill_between(places, lows, highs, color=colour, alpha=0.15, linewidth=0, zorder=2)
    dashes = "-" if curve.practised else (0, (5, 3))
    axes.plot(places, values, color=colour, linewidth=1.7, linestyle=dashes, zorder=3)
    for point in curve.points:
        if point.estimate is None:
            continue
        axes.plot(
            [point.severity],
            [point.estimate.value],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=6,
            markeredgecolor=colour,
            markeredgewidth=1.3,
            markerfacecolor=colour if point.status is Status.OK else _PAPER,
            zorder=5,
            clip_on=False,
        )


def _inline(svg: str, *, name: str, described: str) -> Markup:
    """Return matplotlib's SVG file as an element of the page: themed, unique ids, no addresses in it."""
    opening = re.search(r"<svg\b[^>]*>", svg)
    view_box = re.search(r'viewBox="([\d. ]+)"', svg)
    if opening is None or view_box is None:
        raise ValueError("matplotlib wrote no <svg viewBox> element")
    body = svg[opening.end() :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = re.sub(r"\bfont: (?:(bold|\d{3}) )?([\d.]+)px [^;\"]*", _own_font, body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-").replace(' id="', f' id="{name}-')
    for stand_in, variable in _VARIABLES.items():
        body = body.replace(stand_in, f"var({variable})")
    start = f'<svg class="plot" role="img" aria-label="{escape(described)}" viewBox="{view_box[1]}">'
    return Markup(start + body.rstrip())  # noqa: S704  (matplotlib's own output; our words are escaped)


def _own_font(match: "re.Match[str]") -> str:
    weight = "font-weight: 600; " if match[1] in ("bold", "700") else ""
    return f"{weight}font-size: {match[2]}px"


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
        if {axis_of.get(name) for name in cell.conditions} == {row_axis, column_axis}
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
    key = [(f"{v:.2f}", *colours) for v, colours in zip(steps, _heat_colours(steps, low=low), strict=True)]

    def square(found: Evidence | None) -> Square:
        if found is None or "accuracy" not in found.metrics:
            return Square(found)
        return Square(found, *_heat_colours([found.metrics["accuracy"].value], low=low)[0])

    return HeatMap(
        row_axis=str(row_axis),
        column_axis=str(column_axis),
        columns=columns,
        rows=[(title, [square(found) for found in line]) for title, line in table],
        n=count_range(found.n for found in shown),
        groups=count_range(found.groups for found in shown),
        key=key,
    )


def count_range(counts: Iterable[int]) -> str:
    """Return `700`, or `690 to 700` where the counts differ."""
    found = sorted(set(counts))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _heat_colours(values: Sequence[float], *, low: float) -> list[tuple[str, str]]:
    """Return (background, text) colours for values in [low, 1]: cividis, with the text that reads better."""
    from matplotlib import colormaps

    colour_map = colormaps["cividis"]
    colours: list[tuple[str, str]] = []
    for value in values:
        red, green, blue = (float(part) for part in colour_map((value - low) / (1.0 - low))[:3])
        background = "#" + "".join(f"{round(part * 255):02x}" for part in (red, green, blue))
        colours.append((background, "#ffffff" if _luminance(red, green, blue) < 0.179 else "#000000"))
    return colours


def _luminance(*channels: float) -> float:
    """Return the relative luminance of an sRGB colour in [0, 1] (WCAG 2.2); black and white tie at .179."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
