"""What commands share: printing, progress on a terminal, options that stand in several commands."""

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from imaging_ft.types import T, Track, silent

Dataset = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A built-in card's name, a card (.yaml), a folder of class folders, or a manifest (.csv, .parquet, .npz).",
        show_default=False,
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out and list them, instead of refusing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

_SHOW_AFTER = 2.0


def say(line: str) -> None:
    """Print a line about what is going on to stderr, so that stdout holds results alone."""
    print(line, file=sys.stderr, flush=True)


def fail(message: str) -> None:
    """Print why a command failed."""
    say("\n".join(f"imaging-ft: {line}" for line in message.splitlines()))


def show_json(values: Any) -> None:
    """Print a result for a script."""
    print(json.dumps(values, indent=2, ensure_ascii=False))


def show_files(paths: Iterable[tuple[str, Path]]) -> None:
    """Print where each result lies."""
    rows = list(paths)
    width = max(len(what) for what, _ in rows)
    for what, path in rows:
        print(f"{what:<{width}}  {path}")


def progress() -> Track:
    """Return a progress bar for a terminal: it appears once work has taken two seconds; elsewhere, nothing."""
    if not sys.stderr.isatty():
        return silent
    return _bar


def _bar(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=total)
    start = time.monotonic()
    try:
        for item in items:
            yield item
            bar.advance(task)
            if not bar.live.is_started and time.monotonic() - start > _SHOW_AFTER:
                bar.start()
    finally:
        bar.stop()
