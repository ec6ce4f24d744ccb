"""A table of predictions that grows part by part: what was done before a kill is not done again."""

import json
import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import polars as pl

from imaging_ft.config import reason
from imaging_ft.data.lock import held
from imaging_ft.errors import InputError
from imaging_ft.types import Json

FORMATS = {".csv": "CSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".parquet": "Parquet"}
PART_ROWS = 4096
PART_SECONDS = 30.0
"""A part is written when it is full, or this old."""
_ABOUT = "about.json"
_TEXT = ("image", "status", "label", "reason", "model_sha256")

Row = dict[str, Any]
Status = Literal["ok", "rejected", "error"]


def check_table(path: Path) -> None:
    """Raise InputError where predictions can't be written to a path, before the work is done."""
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: unknown kind {path.suffix!r}; end it in {', '.join(FORMATS)}")
    if path.is_dir():
        raise InputError(f"{path}: a folder stands where the table should be")


@contextmanager
def open_table(path: Path, about: Json) -> Generator["Table"]:
    """Give the table of a path, with the rows that a broken-off run about the same thing left in parts beside it.

    `about` is what the rows follow from, such as the model's SHA-256: parts of anything else are thrown away. Raises
    InputError where the table can't be written, or another run is writing it.
    """
    check_table(path)

    def refuse() -> None:
        raise InputError(f"{path}: another run is writing it; wait for it, or choose another name")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = path.with_name(f".{path.name}.parts")
        with held(path.with_name(f".{path.name}.lock"), waiting=refuse, remove=True):
            yield Table(path, folder, about)
    except OSError as error:
        raise InputError(f"{path}: can't be written: {reason(error)}") from error


class Table:
    """Rows on their way into a file."""

    def __init__(self, path: Path, folder: Path, about: Json) -> None:
        self._path = path
        self._folder = folder
        self._rows: list[Row] = []
        self._since = time.monotonic()
        stored = folder / _ABOUT
        if not (stored.is_file() and _read(stored) == about):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            stored.write_text(json.dumps(about), encoding="utf-8")
        for left in folder.glob("*.writing"):
            left.unlink()
        self._parts = sorted(folder.glob("*.parquet"))

    def left(self, paths: Iterable[Path]) -> Iterator[Path]:
        """Return those of the paths, in their order, whose rows aren't there yet.

        Rows are kept as far as their images are those of `paths`; where files came or went meanwhile, the part where
        that shows and all after it are done again.
        """
        coming = iter(paths)
        for place, part in enumerate(self._parts):
            names = pl.read_parquet(part, columns=["image"])["image"].to_list()
            taken = list(islice(coming, len(names)))
            if [str(path) for path in taken] != names:
                for old in self._parts[place:]:
                    old.unlink()
                del self._parts[place:]
                return chain(taken, coming)
        return coming

    @property
    def stored(self) -> int:
        """How many rows lie in parts."""
        return sum(pl.scan_parquet(part).select(pl.len()).collect().item() for part in self._parts)

    def add(self, row: Row) -> None:
        """Take the next row; at times a part is written."""
        self._rows.append(row)
        if len(self._rows) >= PART_ROWS or time.monotonic() - self._since > PART_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Write the rows that are in memory as a part."""
        if self._rows:
            part = self._folder / f"{len(self._parts):09d}.parquet"
            unfinished = part.with_suffix(".writing")
            _frame(self._rows).write_parquet(unfinished)
            unfinished.replace(part)
            self._parts.append(part)
            self._rows.clear()
        self._since = time.monotonic()

    def finish(self) -> dict[Status, int]:
        """Put all parts together as the file, and return how often each status stands in it."""
        self.keep()
        unfinished = self._path.with_name(f".{self._path.name}.part")
        counts: dict[Status, int] = {"ok": 0, "rejected": 0, "error": 0}
        try:
            if self._parts:
                rows = pl.scan_parquet(self._parts)
                _sink(rows, unfinished, FORMATS[self._path.suffix])
                found = rows.group_by("status").len().collect()
                counts |= dict(found.iter_rows())
            else:
                unfinished.write_bytes(b"")
            unfinished.replace(self._path)
        finally:
            unfinished.unlink(missing_ok=True)
        shutil.rmtree(self._folder)
        return counts


def write_predictions(rows: Sequence[Row], path: Path) -> None:
    """Write rows as CSV, JSON lines or Parquet, by the file's suffix; raises InputError where it can't be written."""
    with open_table(path, {}) as table:
        for row in rows:
            table.add(row)
        table.finish()


def _frame(rows: list[Row]) -> pl.DataFrame:
    # A column of nulls alone would not tell its type.
    types = {key: pl.String if key in _TEXT else pl.Float64 for key in rows[0]}
    return pl.DataFrame(rows, schema=types)


def _sink(rows: pl.LazyFrame, path: Path, kind: str) -> None:
    if kind == "Parquet":
        rows.sink_parquet(path)
    elif kind == "CSV":
        rows.sink_csv(path)
    else:
        rows.sink_ndjson(path)


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
