"""Scales and line drawings: within their frame, with gaps where nothing was measured."""

import re

from hypothesis import given
from hypothesis import strategies as st

from imaging_ft.report.draw import PANEL, SMALL, Line, Mark, Span, chart
from imaging_ft.report.heat import heat_colours
from imaging_ft.report.scale import Scale, difference_scale, error_scale, gap_scale, share_ticks, ticks

finite = st.floats(-1e6, 1e6, allow_nan=False)
small = st.floats(-1, 1, allow_nan=False)


@given(low=finite, span=st.floats(1e-3, 1e6), most=st.integers(2, 8))
def test_ticks_lie_within_the_scale_and_are_few(low: float, span: float, most: int) -> None:
    found = ticks(low, low + span, most=most)
    assert len(found) <= most
    assert all(low - span * 1e-6 <= value <= low + span * (1 + 1e-6) for value, _ in found)


@given(low=st.integers(0, 9))
def test_ticks_of_shares_end_at_one_and_are_at_most_six(low: int) -> None:
    found = share_ticks(low / 10)
    assert found[0] == (1.0, found[0][1])
    assert len(found) <= 6
    assert min(value for value, _ in found) >= low / 10 - 1e-9


@given(values=st.lists(small, max_size=8))
def test_scales_of_differences_and_gaps_take_every_value_and_no_difference_in(values: list[float]) -> None:
    for scale in (difference_scale(values), gap_scale(values)):
        assert scale.low <= min(values, default=0.0) <= max(values, default=0.0) <= scale.high
        assert scale.low <= 0.0 <= scale.high
        assert scale.low < scale.high
    assert difference_scale(values).low == -difference_scale(values).high


def test_a_scale_of_errors_begins_at_zero() -> None:
    scale = error_scale([0.03, 0.17])
    assert (scale.low, scale.high) == (0.0, 0.2)


@given(value=st.floats(-10, 10), low=st.floats(-2, 0.9))
def test_a_place_on_a_scale_lies_within_its_width(value: float, low: float) -> None:
    scale = Scale(low)
    assert scale.margin <= scale.x(value) <= scale.width - scale.margin


@given(st.lists(st.tuples(st.floats(0, 1), st.one_of(st.none(), st.floats(-1, 2))), min_size=1, max_size=12))
def test_a_drawing_stays_within_its_frame(places: list[tuple[float, float | None]]) -> None:
    marks = [Mark(x, y, None if y is None else y - 0.1, None if y is None else y + 0.1) for x, y in places]
    span = Span(0.0, 1.0, [(0.0, "0"), (1.0, "1")])
    for size in (PANEL, SMALL):
        svg = str(chart([Line(marks, 0)], x=span, y=span, described="x", size=size, diagonal=True))
        lines = re.findall(r'class="(?:line|band|guide)"[^>]* d="([^"]+)"', svg)
        numbers = [[float(one) for one in re.findall(r"[\d.]+", line)] for line in lines]
        assert all(size.left <= x <= size.right for line in numbers for x in line[::2])
        assert all(size.top <= y <= size.bottom for line in numbers for y in line[1::2])


def test_a_place_without_a_value_is_a_gap_in_the_line() -> None:
    span = Span(0.0, 4.0, [])
    marks = [Mark(0, 1.0), Mark(1, 1.5), Mark(2, None), Mark(3, 2.0), Mark(4, 2.5)]
    svg = str(chart([Line(marks, 0, intervals="none")], x=span, y=span, described="x"))
    (line,) = re.findall(r'class="line"[^>]* d="([^"]+)"', svg)
    assert line.count("M") == 2
    assert svg.count('class="mark"') == 4


def test_words_in_a_drawing_are_escaped() -> None:
    span = Span(0.0, 1.0, [(0.5, "<b>")], "<i>")
    svg = str(chart([], x=span, y=span, described='"><script>', title="<u>"))
    assert not re.search(r"<(b|i|u|script)>", svg)


@given(st.floats(0, 1))
def test_the_text_on_a_square_can_be_read(value: float) -> None:
    background, ink = heat_colours(value, low=0.0)

    def luminance(colour: str) -> float:
        parts = [part / 255 for part in bytes.fromhex(colour[1:])]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(background), luminance(ink)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
