"""Manifests as rows of text, from CSV and Parquet; each row knows its place."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from imaging_ft.config import reason
from imaging_ft.errors import DataError

SUFFIXES = {".csv", ".parquet"}


@dataclass(frozen=True)
class Row:
    """One row of a manifest."""

    number: int
    """The line where it starts (a CSV file's header is line 1); in a Parquet file, the first row is 1."""
    cells: dict[str, str]
    """Column to value, without spaces at the ends; empty cells are left out."""
    problem: str = ""
    """Why its cells can't be told apart; empty where they can."""


@dataclass(frozen=True)
class Table:
    """A manifest's columns and rows."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: Path) -> Table:
    """Return a CSV (UTF-8, commas) or Parquet file as rows of text; rows without any value are passed over.

    Raises DataError where the file is missing, empty, of another encoding, or has no usable header.
    """
    if path.is_dir():
        raise DataError(f"{path}: a folder, where a manifest (a file) is expected")
    if not path.is_file():
        raise DataError(f"{path}: no such manifest")
    try:
        return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except OSError as error:
        raise DataError(f"{path}: can't be read: {reason(error)}") from error


def _read_csv(path: Path) -> Table:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True, skipinitialspace=True)
    columns: tuple[str, ...] = ()
    rows: list[Row] = []
    number = 1
    try:
        for values in reader:
            cells = [value.strip() for value in values]
            if any(cells) and not columns:
                columns = _header(path, cells)
            elif any(cells):
                rows.append(_row(number, columns, cells))
            number = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path} (row {number}): not CSV: {error}; a quote may be open or misplaced") from error
    if not columns:
        raise DataError(f"{path}: the manifest is empty")
    return Table(columns, tuple(rows))


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path} (row {line}): not UTF-8 text; save the table as 'CSV UTF-8'") from error


def _header(path: Path, names: list[str]) -> tuple[str, ...]:
    while not names[-1]:
        names.pop()
    for name in names:
        if name and names.count(name) > 1:
            raise DataError(f"{path}: two columns are called {name!r}; rename one of them")
    for separator in ";\t|":
        if len(names) == 1 and separator in names[0]:
            raise DataError(f"{path}: the columns are separated by {separator!r}; save the table with commas")
    return tuple(names)


def _row(number: int, columns: tuple[str, ...], cells: list[str]) -> Row:
    if len(cells) < len(columns) or any(cells[len(columns) :]):
        what = f"{len(cells)} cells, but the header has {len(columns)}; put a cell that holds a comma in quotes"
        return Row(number, {}, what)
    named = zip(columns, cells, strict=False)
    return Row(number, {column: cell for column, cell in named if column and cell})


def _read_parquet(path: Path) -> Table:
    try:
        with path.open("rb") as file:
            table = pl.read_parquet(file)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: can't be read as Parquet: {reason(error)}") from error
    flat = [name for name, kind in table.schema.items() if not kind.is_nested() and kind != pl.Binary]
    return Table(tuple(flat), tuple(_parquet_rows(table.select(flat))))


def _parquet_rows(table: pl.DataFrame) -> Iterator[Row]:
    for index, values in enumerate(table.iter_rows(named=True)):
        texts = {name: _as_text(value) for name, value in values.items()}
        cells = {name: text for name, text in texts.items() if text}
        if cells:
            yield Row(index + 1, cells)


def _as_text(value: Any) -> str:
    """Return a cell as text: nothing for null and NaN, and 1 for 1.0 (what is missing made integers floats)."""
    if value is None or value != value:  # only NaN differs from itself
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
