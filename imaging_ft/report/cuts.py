"""One column of a table cut into values or bins, and what its name says of light and view."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from imaging_ft.types import Ints

EMPTY = "(empty)"
"""The name of the images without a value."""
NOTHING = "is empty"
"""The note of a column without any value."""
MAX_VALUES = 12
"""A text column with more different values is no condition, but a name."""
BINS = 4
ANGLE_BINS = 12
_ANGLE_STEPS = (1, 2, 5, 10, 15, 30, 45, 60)
_TURN = 360
_WHOLE_BELOW = 1e15
_FIRST_LOOK = 1000
_FEW_NUMBERS = 6
"""A numeric column with at most so many different values is not cut into bins."""

_ANGLE = re.compile(r"deg|degs|degrees?|angles?|yaw|pitch|roll|tilt|azimuth|elevation|inclination|rotation")
_NO_VIEW = re.compile(r"flip|temp|temperature|celsius|fahrenheit")
"""Words beside which a degree or an angle says nothing of a view: a temperature, the flip angle of an MR sequence."""
_LIGHT = re.compile(r"lights?|lighting|sun|sunlight|lamps?|illumination|backlight|flash")
_LIGHT_NUMBER = re.compile(r"lux|exposure|brightness|luminance|illuminance|irradiance|dose|mas|kvp")
"""Words that speak of light where the column holds numbers (an `exposure` in words may be one to dust)."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

Codes = npt.NDArray[np.signedinteger[Any]]
"""[n]: the place of each image's value among a column's values."""
_Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    """One column as codes: code k is `names[k]`, and the code len(names) an image without a value."""

    names: list[str]
    """Values or bins, in order; one that no image has may be among them. None where the column gives no slices."""
    codes: Codes
    axis: str
    """`lighting` or `angle` where the column's name says so, else that name."""
    centres: list[float] | None = None
    """The middle of each value or bin, where the column is a number."""
    note: str | None = None
    """Why the column gives no slices, or isn't cut as its name says."""


def cut(series: pl.Series) -> Cut:
    """Return a column as codes; one without names gives no slices, and its note says why."""
    name = series.name
    if series.dtype.is_nested() or isinstance(series.dtype, pl.Binary | pl.Object):
        return _no_cut(name, f"holds {series.dtype} and is not reported as a condition")
    text, numbers = _text_and_numbers(series)
    if numbers is None:
        values = text.drop_nulls().unique()
        if not len(values):
            return _no_cut(name, NOTHING)
        if len(values) > MAX_VALUES:
            return _no_cut(name, f"has {len(values)} different values and is not reported as a condition")
        values = values.sort()
        codes = text.replace_strict(values, range(len(values)), default=len(values), return_dtype=pl.Int16)
        return Cut(values.to_list(), codes.to_numpy(), _axis(name))
    known = np.sort(numbers)
    known = known[: len(known) - np.count_nonzero(np.isnan(known))]
    angle, note = _is_angle(name), None
    if angle and max(-known[0], known[-1]) > _TURN:
        angle, note = False, f"is named as an angle but goes beyond ±{_TURN} degrees; it is cut as other numbers are"
    axis = _axis(name, number=True, angle=angle)
    new = np.diff(known) > 0
    if np.count_nonzero(new) < _FEW_NUMBERS:
        known = known[np.concatenate([[True], new])]
        codes = np.searchsorted(known, numbers).astype(np.int16)  # NaN comes last
        names = _texts(known.tolist()) if series.dtype.is_numeric() else _spelled(text, known)
        return Cut(names, codes, axis, known.tolist(), note)
    names, inner, centres = _even(known) if angle else _quantiles(known)
    codes = np.searchsorted(inner, numbers, side="right").astype(np.int16)
    codes[np.isnan(numbers)] = len(names)
    return Cut(names, codes, axis, centres, note)


def parts(codes: Codes, size: int) -> tuple[Ints, list[Ints]]:
    """Return how many images have each code below `size`, and their positions, rising."""
    counts = np.bincount(codes, minlength=size)
    # A stable sort of 16 bits is a radix sort: one pass over the rows, however many codes there are.
    return counts, np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])[:size]


def _no_cut(name: str, note: str) -> Cut:
    return Cut([], np.zeros(0, np.int16), name, note=note)


def _words(name: str) -> list[str]:
    """Return a column's name as words in lower case: of `viewAngle_deg` view, angle, deg; of `kVp` also kvp."""
    return [word.lower() for word in (*re.findall(r"[A-Za-z]+", name), *_WORD.findall(name))]


def _speaks(words: Sequence[str], of: re.Pattern[str]) -> bool:
    return any(of.fullmatch(word) for word in words)


def _is_angle(name: str) -> bool:
    words = _words(name)
    # Degrees may be those of a temperature, Celsius or Fahrenheit.
    return _speaks(words, _ANGLE) and not _speaks(words, _NO_VIEW) and words[-1] not in {"c", "f"}


def _axis(name: str, *, number: bool = False, angle: bool = False) -> str:
    words = _words(name)
    if _speaks(words, _LIGHT) or (number and _speaks(words, _LIGHT_NUMBER)):
        return "lighting"
    return "angle" if angle else name


def _text_and_numbers(series: pl.Series) -> tuple[pl.Series, _Numbers | None]:
    """Return a column as text, null where empty, and as numbers, NaN where empty.

    The numbers are None where a cell is no finite number, or where every cell is empty or `nan`; a column that
    holds numbers already is not made text where they do.
    """
    if series.dtype.is_numeric():
        numbers = series.cast(pl.Float64)
        if not numbers.is_infinite().any() and not numbers.drop_nulls().is_nan().all():
            return series, _filled(numbers)
        return (series.fill_nan(None) if series.dtype.is_float() else series).cast(pl.String), None
    text = series.cast(pl.String)
    text = text.set(text.is_in(["", EMPTY]), None)
    numbers = text
    for part in (text.head(_FIRST_LOOK), text):  # words are mostly told by the first rows
        numbers = _parsed(part)
        if numbers.null_count() > part.null_count():
            return text, None
    if numbers.is_infinite().any() or numbers.drop_nulls().is_nan().all():
        return text, None
    return text, _filled(numbers)


def _filled(numbers: pl.Series) -> _Numbers:
    return numbers.fill_null(float("nan")).to_numpy() + 0.0  # -0.0 becomes 0.0


def _parsed(text: pl.Series) -> pl.Series:
    """Return text as numbers, null where it is none."""
    numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() > text.null_count():
        numbers = text.str.strip_chars().cast(pl.Float64, strict=False)
    return numbers


def _spelled(text: pl.Series, known: _Numbers) -> list[str]:
    """Return the names of numbers: as the cells write them, or in digits where they do so in several ways."""
    spellings = text.drop_nulls().unique()
    values = _parsed(spellings)
    names = _texts(known.tolist())
    for place, value in enumerate(known.tolist()):
        ways = spellings.filter(values == value)
        if len(ways) == 1:
            names[place] = ways[0]
    return names


def _quantiles(known: _Numbers) -> tuple[list[str], list[float], list[float]]:
    """Return bins of about as many of the sorted numbers: their names, the edges between them, and their medians."""
    low, high, middle = known[0], known[-1], known[(len(known) - 1) // 2]
    # Shares are often 0 for most images: as edges, the quantiles of such a column would all be one.
    given = known[known > low] if middle == low else known[known < high] if known[len(known) // 2] == high else known
    bins = BINS - (len(given) < len(known))
    edges = np.unique([given[-(-(len(given) - 1) * share // bins)] for share in range(bins + 1)]).tolist()
    if edges[0] > low:
        first, *texts = _texts([float(low), *edges])
        names, inner = [first, *_ranges(texts)], edges[:-1]
    elif edges[-1] < high:
        *texts, last = _texts([*edges, float(high)])
        names, inner = [*_ranges(texts), last], [*edges[1:-1], float(high)]
    else:
        names, inner = _ranges(_texts(edges)), edges[1:-1]
    inside = np.split(known, np.searchsorted(known, inner))
    return names, inner, [float(np.median(part)) for part in inside]


def _even(known: _Numbers) -> tuple[list[str], list[float], list[float]]:
    """Return bins of the sorted angles: their names, the edges between them, and their middles.

    The edges are multiples of the smallest round step that gives no more than ANGLE_BINS bins.
    """
    low, high = known[0], known[-1]
    step = next(step for step in _ANGLE_STEPS if np.ceil(high / step) - np.floor(low / step) <= ANGLE_BINS)
    edges: _Numbers = np.arange(np.floor(low / step), np.ceil(high / step) + 1) * float(step)
    return _ranges(_texts(edges.tolist())), edges[1:-1].tolist(), (edges[:-1] + step / 2).tolist()


def _ranges(texts: Sequence[str]) -> list[str]:
    """Return the names of the bins between edges: all but the last leave their upper edge out."""
    return [*(f"{low} to <{high}" for low, high in pairwise(texts[:-1])), f"{texts[-2]} to {texts[-1]}"]


def _texts(numbers: Sequence[float]) -> list[str]:
    """Return numbers in six digits, or in as many as tell them apart; whole numbers (dates too) in full."""
    for digits in range(6, 18):
        texts = [f"{n:.0f}" if n == round(n) and abs(n) < _WHOLE_BELOW else f"{n:.{digits}g}" for n in numbers]
        if len(set(texts)) == len(texts):
            return texts
    return [repr(number) for number in numbers]
