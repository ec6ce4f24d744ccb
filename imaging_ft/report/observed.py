"""Recorded and measured conditions: every column of a table cuts the clean images into slices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from imaging_ft.catalog import suggest
from imaging_ft.errors import ConfigError
from imaging_ft.report.cuts import EMPTY, NOTHING, Codes, Cut, cut, parts
from imaging_ft.report.result import Column, Source
from imaging_ft.types import Ints


@dataclass(frozen=True)
class Slice:
    """The images that share a value, or a bin of values, of one column or of several."""

    conditions: dict[str, str]
    """Column to value or bin; several for an intersection."""
    source: Source
    axes: list[str]
    """One a column: `lighting` or `angle` where the column says so, else the column's name."""
    positions: Ints
    """Rows of the table, rising."""


@dataclass(frozen=True)
class Observed:
    """A table cut into slices."""

    columns: list[Column]
    """Those that give slices, in the table's order."""
    slices: list[Slice]
    """Column by column, then the intersections that were asked for."""
    notes: list[str]
    """A line for each column that gives no slice, or isn't cut as its name says, and why; none for a measure that no
    image has."""


def observe(
    table: pl.DataFrame, *, source: Source, cross: Sequence[Sequence[str]] = (), titles: Mapping[str, str] = {}
) -> Observed:
    """Return the slices by every column of a table [images, columns], and by the intersections in `cross`.

    Null and an empty text are no value, and NaN is none among numbers: the slice `(empty)`. Numbers with more than
    six values are cut into four bins of about as many images, whose edges are values that occur; where half of the
    images or more hold the smallest, it is a slice of its own, and the others are three bins. Angles are cut evenly,
    into at most twelve bins with round edges. A column without `titles` is called by its name.

    Of an intersection of two or three columns the slices that hold an image are listed. Raises ConfigError for one
    of other columns than the table's, or of one that gives no slices.
    """
    cuts: dict[str, Cut] = {}
    notes: dict[str, str] = {}
    for series in table:
        found = cut(series)
        if found.note is not None:
            notes[series.name] = f"column {series.name!r} {found.note}"
        if found.names:
            cuts[series.name] = found
    asked = dict.fromkeys(_checked(names, table.columns, cuts, notes) for names in cross)
    columns: list[Column] = []
    slices: list[Slice] = []
    for name, found in cuts.items():
        counts, positions = parts(found.codes, len(found.names) + 1)
        centres = found.centres and [centre for centre, n in zip(found.centres, counts, strict=False) if n]
        columns.append(Column(name=name, source=source, title=titles.get(name, name), axis=found.axis, centres=centres))
        values = zip([*found.names, EMPTY], positions, strict=True)
        slices += [Slice({name: value}, source, [found.axis], inside) for value, inside in values if len(inside)]
    for names in asked:
        slices += _crossed({name: cuts[name] for name in names}, source)
    # That gray images have no colour cast is no news; that a column of the manifest is empty is.
    news = [note for note in notes.values() if source == "recorded" or not note.endswith(NOTHING)]
    return Observed(columns, slices, news)


def codes_of(observed: Observed, n: int) -> dict[str, tuple[Codes, list[str]]]:
    """Return each column as codes [n] (int8) and the values they stand for; -1 is an image without a value."""
    found: dict[str, tuple[Codes, list[str]]] = {
        column.name: (np.full(n, -1, np.int8), []) for column in observed.columns
    }
    for part in observed.slices:
        if len(part.conditions) == 1:
            [(column, value)] = part.conditions.items()
            if value != EMPTY:
                codes, names = found[column]
                codes[part.positions] = len(names)
                names.append(value)
    return found


def _checked(
    names: Sequence[str], known: Sequence[str], cuts: Mapping[str, Cut], notes: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the columns of an intersection; raises ConfigError where they can't be crossed."""
    where = f"intersection {' × '.join(names)!r}"
    for name in names:
        if name not in known:
            raise ConfigError(f"{where}: no column {name!r}; {suggest(name, list(known))}")
        if name not in cuts:
            raise ConfigError(f"{where}: {notes[name]}; cross other columns")
    if len(names) not in {2, 3} or len(set(names)) < len(names):
        raise ConfigError(f"{where}: an intersection is of two or three different columns; name so many")
    return tuple(names)


def _crossed(cuts: Mapping[str, Cut], source: Source) -> list[Slice]:
    values = [[*found.names, EMPTY] for found in cuts.values()]
    shape = tuple(len(names) for names in values)
    codes = np.zeros(len(next(iter(cuts.values())).codes), np.int16)  # at most 13 ** 3 values
    for found, size in zip(cuts.values(), shape, strict=True):
        codes = (codes * size + found.codes).astype(np.int16, copy=False)
    axes = [found.axis for found in cuts.values()]
    slices: list[Slice] = []
    for place, inside in zip(np.ndindex(shape), parts(codes, int(np.prod(shape)))[1], strict=True):
        if len(inside):
            here = [names[code] for names, code in zip(values, place, strict=True)]
            slices.append(Slice(dict(zip(cuts, here, strict=True)), source, axes, inside))
    return slices
