"""The page's line drawings as inline SVG: severity curves, reliability, risk–coverage.

Colours are CSS variables of the page (`--ink`, `--c1` …), so that one drawing serves light, dark and paper; text
stays text in the reader's own sans-serif. A drawing has no ids, and the same values give the same bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from markupsafe import Markup

_GLYPHS = (
    "M17 3.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7z",
    "M13.8 3.8h6.4v6.4h-6.4z",
    "M17 2.8l4 7.6h-8z",
    "M17 2.4l4.6 4.6l-4.6 4.6l-4.6-4.6z",
    "M17 11.2l4-7.6h-8z",
    "M13.5 3.5l2-.6l1.5 2l1.5-2l2 .6l-1.7 3.5l1.7 3.5l-2 .6l-1.5-2l-1.5 2l-2-.6l1.7-3.5z",
)
"""The marks of the series, centred on (17, 7)."""
CURVES_A_PANEL = len(_GLYPHS)
"""How many curves one drawing can tell apart by colour and mark."""
DASHES = "5 3"


@dataclass(frozen=True)
class Mark:
    """A place on a line; `y` is None where too few images were measured."""

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None
    hollow: bool = False


@dataclass(frozen=True)
class Line:
    """Marks from left to right, with their intervals."""

    marks: Sequence[Mark]
    style: int | Literal["ink", "muted"]
    """The place in the palette, or the colour of the text."""
    dashed: bool = False
    joined: bool = True
    """Whether a line joins the marks; a gap stays where a mark has no value."""
    pointed: bool = True
    """Whether the marks themselves are drawn."""
    intervals: Literal["band", "bars", "none"] = "band"


@dataclass(frozen=True)
class Span:
    """One axis of a drawing."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    title: str = ""


@dataclass(frozen=True)
class Size:
    """A drawing's places in pixels: its whole, and the edges of the plot."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    mark: float = 1.0
    """How large its marks are, in those of a panel."""


PANEL = Size(317, 209, 32, 307, 30, 172)
SMALL = Size(168, 158, 27, 160, 8, 127, mark=0.7)


def chart(
    lines: Sequence[Line],
    *,
    x: Span,
    y: Span,
    described: str,
    size: Size = PANEL,
    title: str = "",
    level: float | None = None,
    diagonal: bool = False,
) -> Markup:
    """Return a drawing of lines over one pair of axes.

    `described` is what a screen reader says; `level` draws a dotted line across, `diagonal` one from the lower left,
    where x and y are equal.
    """
    across = _places(x, size.left, size.right)
    up = _places(y, size.bottom, size.top)
    body: list[Markup] = []
    for value, text in y.ticks:
        body.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(size.left, up(value), size.right))
        body.append(_text(text, size.left - 5, up(value) + 3.5, "end"))
    body.append(Markup('<path class="base" d="M{} {}H{}"/>').format(size.left, size.bottom, size.right))
    body += [_text(text, across(value), size.bottom + 13, "middle") for value, text in x.ticks]
    if x.title:
        body.append(_text(x.title, (size.left + size.right) / 2, size.height - 3, "middle"))
    if title:
        body.append(Markup('<text class="title" x="1" y="12">{}</text>').format(title))
    if level is not None:
        body.append(Markup('<path class="guide" d="M{} {}H{}"/>').format(size.left, up(level), size.right))
    if diagonal:
        start, end = max(x.low, y.low), min(x.high, y.high)
        corners = (across(start), up(start), across(end), up(end))
        body.append(Markup('<path class="guide" d="M{} {}L{} {}"/>').format(*corners))
    places = [[(across(mark.x), mark) for mark in line.marks] for line in lines]
    for line, marks in zip(lines, places, strict=True):
        body += _intervals(line, marks, up)
    for line, marks in zip(lines, places, strict=True):
        body += _stroke(line, marks, up, size.mark)
    opening = Markup('<svg class="plot" role="img" aria-label="{}" viewBox="0 0 {:g} {:g}">')
    return opening.format(described, size.width, size.height) + Markup("").join(body) + Markup("</svg>")


def swatch(place: int, *, dashed: bool) -> Markup:
    """Return the legend's picture of a panel's line `place`: its colour, dash and mark."""
    style = place % CURVES_A_PANEL
    return Markup(
        '<svg class="swatch" width="34" height="14" viewBox="0 0 34 14" aria-hidden="true">'
        '<path d="M1 7H33" fill="none" stroke="var(--c{0})" stroke-width="2" stroke-dasharray="{1}"/>'
        '<path d="{2}" fill="var(--c{0})"/></svg>'
    ).format(style + 1, DASHES if dashed else "none", _GLYPHS[style])


def _places(span: Span, start: float, end: float) -> Callable[[float], float]:
    """Return what turns values into pixels along one axis, to a tenth; values beyond an end lie at that end."""
    length = (span.high - span.low) or 1.0

    def place(value: float) -> float:
        share = (min(max(value, span.low), span.high) - span.low) / length
        return round(start + share * (end - start), 1)

    return place


def _text(text: str, x: float, y: float, anchor: str) -> Markup:
    return Markup('<text x="{:g}" y="{:g}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _colour(line: Line) -> str:
    return f"var(--c{line.style % CURVES_A_PANEL + 1})" if isinstance(line.style, int) else f"var(--{line.style})"


def _runs(marks: Sequence[tuple[float, Mark]]) -> Iterator[list[tuple[float, Mark]]]:
    """Give the stretches of a line between its gaps."""
    for known, stretch in groupby(marks, key=lambda placed: placed[1].y is not None):
        if known:
            yield [*stretch]


def _intervals(line: Line, marks: Sequence[tuple[float, Mark]], up: Callable[[float], float]) -> Iterator[Markup]:
    bounded = [(at, mark) for at, mark in marks if mark.low is not None and mark.high is not None]
    if line.intervals == "bars":
        path = "".join(f"M{at} {up(mark.low or 0.0)}V{up(mark.high or 0.0)}" for at, mark in bounded)
        yield Markup('<path class="bars" stroke="{}" d="{}"/>').format(_colour(line), path)
    elif line.intervals == "band":
        for run in _runs([(at, mark) for at, mark in marks if mark.y is None or mark.low is not None]):
            over = [f"{at} {up(mark.high or 0.0)}" for at, mark in run]
            under = [f"{at} {up(mark.low or 0.0)}" for at, mark in reversed(run)]
            if len(run) > 1:
                yield Markup('<path class="band" fill="{}" d="M{}z"/>').format(_colour(line), "L".join(over + under))


def _stroke(
    line: Line, marks: Sequence[tuple[float, Mark]], up: Callable[[float], float], scale: float
) -> Iterator[Markup]:
    colour = _colour(line)
    if line.joined:
        runs = ("L".join(f"{at} {up(mark.y or 0.0)}" for at, mark in run) for run in _runs(marks))
        path = "".join(f"M{run}" for run in runs)
        dashes = Markup(' stroke-dasharray="{}"').format(DASHES) if line.dashed else ""
        if path:
            yield Markup('<path class="line" stroke="{}"{} d="{}"/>').format(colour, dashes, path)
    if not line.pointed:
        return
    glyph = _GLYPHS[line.style % CURVES_A_PANEL if isinstance(line.style, int) else 0]
    for at, mark in marks:
        if mark.y is not None:
            fill = "var(--paper)" if mark.hollow else colour
            place = f"{round(at - 17 * scale, 1):g} {round(up(mark.y) - 7 * scale, 1):g}"
            size = "" if scale == 1 else f" scale({scale:g})"
            yield Markup('<path class="mark" stroke="{}" fill="{}" transform="translate({}){}" d="{}"/>').format(
                colour, fill, place, size, glyph
            )
